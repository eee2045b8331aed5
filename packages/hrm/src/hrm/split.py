"""The tasks and examples of a run."""

from dataclasses import dataclass

import torch

from arc_core.datasets import fingerprint, load_tasks, load_training_tasks
from arc_core.errors import ConfigError, InputError
from arc_core.task import Task
from arc_core.tensors import TaskTensors
from hrm.config import DataConfig
from hrm.identities import Examples, Identities, make_examples


@dataclass(frozen=True)
class TrainingData:
    """What a run learns, and what it is validated on.

    Attributes:
        tasks: of the training set, then the transductive ones without their tests.
        transductive_ids: of the latter.
        tensors: all of them on the device.
        identities: of all of them.
        train, held_out: examples, see `make_examples`.
    """

    tasks: list[Task]
    transductive_ids: tuple[str, ...]
    tensors: TaskTensors
    identities: Identities
    train: Examples
    held_out: Examples

    @property
    def fingerprint(self) -> str:
        """Of the tasks as they were learnt."""
        return fingerprint(self.tasks)


def without_tests(task: Task) -> Task:
    """The task's demonstrations alone, so that no test can reach training."""
    return Task(task.task_id, task.train, ())


def chosen_tasks(data: DataConfig) -> list[Task]:
    """The tasks of the training set that the config leaves, those with the smallest hash of their id first."""
    tasks = [task for task in load_training_tasks(data.train) if task.longest_side <= data.max_side]
    tasks.sort(key=lambda task: fingerprint([Task(task.task_id, (), ())]))
    return tasks[: data.max_tasks]


def training_data(data: DataConfig, seed: int, device: torch.device) -> TrainingData:
    """Loads what the config names.

    Raises:
        InputError: a spec is not what it must be, or nothing is left.
    """
    if data.held_out_views > data.num_augmentations:
        raise ConfigError(
            f"data.held_out_views must be at most num_augmentations = {data.num_augmentations}; "
            f"got {data.held_out_views}"
        )
    tasks = chosen_tasks(data)
    if not tasks:
        raise InputError(f"data.train must leave a task to train on; {data.train} has none, see data.max_side")
    transductive = [without_tests(task) for task in load_tasks(data.transductive)] if data.transductive else []
    known = {task.task_id for task in tasks}
    transductive = [task for task in transductive if task.task_id not in known]
    everything = tasks + transductive
    tensors = TaskTensors.from_tasks(everything, device)
    identities = Identities.of([task.task_id for task in everything], data.num_augmentations, seed)
    train, held_out = make_examples(tensors, identities, data.held_out_views)
    return TrainingData(everything, tuple(task.task_id for task in transductive), tensors, identities, train, held_out)
