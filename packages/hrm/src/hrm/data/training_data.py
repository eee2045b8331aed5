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
from hrm.data.batches import OnTheFly, Source, Stored
from hrm.data.identities import Examples, Identities, make_examples


@dataclass(frozen=True)
class TrainingData:
    """What a run learns, and what it is validated on.

    Attributes:
        spec, transductive_spec: of the training set and of the transductive one.
        tasks: of the training set, then the transductive ones without their tests.
        transductive_ids: of the latter.
        tensors: all of them on the device.
        identities: of all of them.
        train, held_out: examples, see `make_examples`.
        source: of the training examples' tokens.
    """

    spec: str
    transductive_spec: str | None
    tasks: list[Task]
    transductive_ids: tuple[str, ...]
    tensors: TaskTensors
    identities: Identities
    train: Examples
    held_out: Examples
    source: Source

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
    if data.dataset is not None:
        return stored_data(Path(data.dataset), device)
    if data.held_out_views > data.num_augmentations:
        raise ConfigError(
            f"data.held_out_views must be at most num_augmentations = {data.num_augmentations}; "
            f"got {data.held_out_views}"
        )
    tasks = chosen_tasks(data)
    if not tasks:
        raise InputError(f"data.train must leave a task to train on; {data.train} has none, see data.max_side")
    everything, ids = learnable_tasks(tasks, data.transductive)
    tensors = TaskTensors.from_tasks(everything, device)
    identities = Identities.of([task.task_id for task in everything], data.num_augmentations, seed)
    train, held_out = make_examples(tensors, identities, data.held_out_views)
    source = OnTheFly(tensors, identities, train)
    return TrainingData(data.train, data.transductive, everything, ids, tensors, identities, train, held_out, source)


def stored_data(folder: Path, device: torch.device) -> TrainingData:
    """What `build-arc-dataset` wrote. The tasks are loaded again, for validation, and must be the same.

    Raises:
        InputError: the folder is no whole dataset, or its tasks have changed.
    """
    try:
        description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        shared = [np.load(folder / f"{name}.npy") for name in ("groups", "elements", "colors")]
        splits = {
            split: {
                name: np.load(folder / split / f"{name}.npy", mmap_mode="r")
                for name in ("inputs", "labels", "identities", "pairs")
            }
            for split in ("train", "val")
        }
        recipe, sizes = description["recipe"], description["examples"]
        whole = all(len(array) == sizes[split] for split, arrays in splits.items() for array in arrays.values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"data.dataset must be a folder that build-arc-dataset wrote; {folder} cannot be read: {error}"
        ) from None
    everything, ids = learnable_tasks(load_training_tasks(recipe["train"]), recipe["transductive"])
    if fingerprint(everything) != description["fingerprint"] or not whole:
        raise InputError(f"the dataset in {folder} is not of today's {recipe['train']}, or not whole; build it again")
    tensors = TaskTensors.from_tasks(everything, device)
    identities = Identities(tuple(task.task_id for task in everything), *shared)
    examples = {
        split: Examples(np.array(arrays["identities"]), np.array(arrays["pairs"]), tensors.pair_sides[arrays["pairs"]])
        for split, arrays in splits.items()
    }
    arrays = splits["train"]
    source = Stored(arrays["inputs"], arrays["labels"], examples["train"].identities, device)
    return TrainingData(
        recipe["train"], recipe["transductive"], everything, ids, tensors, identities, examples["train"],
        examples["val"], source,
    )  # fmt: skip


def learnable_tasks(tasks: list[Task], transductive: str | None) -> tuple[list[Task], tuple[str, ...]]:
    """The training tasks, then the demonstrations of the transductive ones that are not among them, and their ids."""
    known = {task.task_id for task in tasks}
    loaded = load_tasks(transductive) if transductive else []
    others = [without_tests(task) for task in loaded if task.task_id not in known]
    return tasks + others, tuple(task.task_id for task in others)
