"""Splits a training set into tasks to train on and tasks held out for validation."""

from dataclasses import dataclass

from arc_core.datasets import fingerprint, load_training_tasks
from arc_core.errors import InputError
from arc_core.task import Task
from rlan.config import DataConfig


@dataclass(frozen=True)
class Split:
    """A split of a training set.

    Attributes:
        train: tasks to train on.
        held_out: tasks for validation only.
    """

    train: list[Task]
    held_out: list[Task]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the training tasks, which a resumed run must share."""
        return fingerprint(self.train)


def split_tasks(data: DataConfig) -> Split:
    """Loads a training set and holds a part out, chosen by a hash of the ids alone: the same part for every seed.

    Raises:
        InputError: the spec is no training set, or nothing is left to train on.
    """
    tasks = [task for task in load_training_tasks(data.train) if len(task.train) + len(task.test) >= 2]
    ranked = sorted(tasks, key=lambda task: fingerprint([Task(task.task_id, (), ())]))
    count = round(data.held_out_fraction * len(ranked))
    held_out = {task.task_id for task in ranked[:count]}
    train = [task for task in tasks if task.task_id not in held_out and task.longest_side <= data.max_side]
    if not train:
        raise InputError(f"data.train must leave a task to train on; {data.train} has {len(tasks)}, see data.max_side")
    return Split(train, [task for task in tasks if task.task_id in held_out])
