"""The tasks and examples of a run."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from arc_core.datasets import fingerprint, load_tasks, load_training_tasks
from arc_core.errors import ConfigError, InputError
from arc_core.task import Task
from arc_core.tensors import TaskTensors
from hrm.config import DataConfig
from hrm.data.batches import ExampleSource, OnTheFlySource, StoredSource
from hrm.data.identities import Examples, Identities, make_examples


@dataclass(frozen=True)
class TrainingData:
    """What a run learns, and what it is validated on.

    Attributes:
        spec, transductive_spec: data specs of the training set and of the transductive one.
        tasks: of the training set, then the transductive ones without their tests.
        transductive_ids: ids of the transductive tasks.
        tensors: all tasks on the device.
        identities: of all tasks.
        train, held_out: examples, see `make_examples`.
        source: gives the training examples' tokens.
    """

    spec: str
    transductive_spec: str | None
    tasks: list[Task]
    transductive_ids: tuple[str, ...]
    tensors: TaskTensors
    identities: Identities
    train: Examples
    held_out: Examples
    source: ExampleSource

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the tasks as they are learnt."""
        return fingerprint(self.tasks)


def remove_tests(task: Task) -> Task:
    """Returns the task with its demonstrations alone, so that no test can reach training."""
    return Task(task.task_id, task.train, ())


def select_tasks(data: DataConfig) -> list[Task]:
    """Loads the training set's tasks that the config leaves, those with the smallest hash of their id first."""
    tasks = [task for task in load_training_tasks(data.train) if task.longest_side <= data.max_side]
    tasks.sort(key=lambda task: fingerprint([Task(task.task_id, (), ())]))
    return tasks[: data.max_tasks]


def load_training_data(data: DataConfig, seed: int, device: torch.device) -> TrainingData:
    """Loads the tasks that the config names and makes their examples.

    Args:
        data: section `data` of the config.
        seed: of the views.
        device: where the tasks' tensors are kept.
    Raises:
        InputError: a spec is not what it must be, or no task is left.
    """
    if data.dataset is not None:
        return load_stored_data(Path(data.dataset), device)
    if data.held_out_views > data.num_augmentations:
        raise ConfigError(
            f"data.held_out_views must be at most num_augmentations = {data.num_augmentations}; "
            f"got {data.held_out_views}"
        )
    tasks = select_tasks(data)
    if not tasks:
        raise InputError(f"data.train must leave a task to train on; {data.train} has none, see data.max_side")
    all_tasks, transductive_ids = add_transductive_tasks(tasks, data.transductive)
    tensors = TaskTensors.from_tasks(all_tasks, device)
    identities = Identities.from_task_ids([task.task_id for task in all_tasks], data.num_augmentations, seed)
    train, held_out = make_examples(tensors, identities, data.held_out_views)
    return TrainingData(
        data.train, data.transductive, all_tasks, transductive_ids, tensors, identities, train, held_out,
        OnTheFlySource(tensors, identities, train),
    )  # fmt: skip


def load_stored_data(folder: Path, device: torch.device) -> TrainingData:
    """Loads what `build-arc-dataset` wrote. The tasks are loaded again, for validation, and must be the same.

    Raises:
        InputError: the folder is no complete dataset, or its tasks have changed.
    """
    try:
        description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        views = [np.load(folder / f"{name}.npy") for name in ("groups", "elements", "colors")]
        splits = {
            split: {
                name: np.load(folder / split / f"{name}.npy", mmap_mode="r")
                for name in ("inputs", "labels", "identities", "pairs")
            }
            for split in ("train", "val")
        }
        recipe, sizes = description["recipe"], description["examples"]
        is_complete = all(len(array) == sizes[split] for split, arrays in splits.items() for array in arrays.values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"data.dataset must be a folder that build-arc-dataset wrote; {folder} cannot be read: {error}"
        ) from None
    all_tasks, transductive_ids = add_transductive_tasks(load_training_tasks(recipe["train"]), recipe["transductive"])
    if fingerprint(all_tasks) != description["fingerprint"] or not is_complete:
        raise InputError(f"the dataset in {folder} is not of today's {recipe['train']}, or not whole; build it again")
    tensors = TaskTensors.from_tasks(all_tasks, device)
    identities = Identities(tuple(task.task_id for task in all_tasks), *views)
    examples = {
        split: Examples(np.array(arrays["identities"]), np.array(arrays["pairs"]), tensors.pair_sides[arrays["pairs"]])
        for split, arrays in splits.items()
    }
    arrays = splits["train"]
    source = StoredSource(arrays["inputs"], arrays["labels"], examples["train"].identities, device)
    return TrainingData(
        recipe["train"], recipe["transductive"], all_tasks, transductive_ids, tensors, identities, examples["train"],
        examples["val"], source,
    )  # fmt: skip


def add_transductive_tasks(tasks: list[Task], transductive: str | None) -> tuple[list[Task], tuple[str, ...]]:
    """Adds the demonstrations of the transductive tasks that are not among the training tasks.

    Returns:
        the training tasks, then the transductive ones without their tests; and the ids of the latter.
    """
    training_ids = {task.task_id for task in tasks}
    loaded = load_tasks(transductive) if transductive else []
    added = [remove_tests(task) for task in loaded if task.task_id not in training_ids]
    return tasks + added, tuple(task.task_id for task in added)
