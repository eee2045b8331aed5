"""`build-arc-dataset`: augmented puzzles on disk, as memory-mapped arrays.

A folder holds for each split (train, val, test) `inputs.npy` and `labels.npy` (X, 900) uint8 tokens with grids at the
top left (they are moved when read), `identities.npy` and `pairs.npy` (X,) int64; and for all of them the views,
`elements.npy` (I,) and `colors.npy` (I, 10), and where each task's begin, `groups.npy` (tasks + 1,). Pairs are numbered
over all pairs that may be learnt; in "test" from each task's first test. `dataset.json` is written last; without it the
folder is no dataset. Until then all is in DIR.partial, where the same command goes on after an interruption.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from rich.console import Console

from arc_core.datasets import fingerprint, load_tasks, load_training_tasks
from arc_core.errors import InputError
from arc_core.files import show_path, write_json
from arc_core.progress import Progress
from hrm.data.dataset_layout import Plan, Recipe, num_examples, plan, write_tasks
from hrm.data.npy_writer import create
from hrm.data.training_data import without_tests
from hrm.data.unique_views import CELLS

_TASKS_A_PART = 4
_PLAN, _WRITTEN = "unfinished.json", "parts_written.txt"


def begin(partial: Path, description: dict[str, object], plans: Sequence[Plan], sizes: dict[str, int]) -> set[int]:
    """Readies the folder for a build; gives the parts that an interrupted build of the same recipe has written."""
    unfinished = partial / _PLAN
    if unfinished.exists() and json.loads(unfinished.read_text(encoding="utf-8")) == description:
        return {int(line) for line in (partial / _WRITTEN).read_text(encoding="utf-8").split()}
    shutil.rmtree(partial, ignore_errors=True)
    for split, rows in sizes.items():
        (partial / split).mkdir(parents=True)
        create(partial / split / "inputs.npy", (rows, CELLS), "u1")
        create(partial / split / "labels.npy", (rows, CELLS), "u1")
        create(partial / split / "identities.npy", (rows,), "<i8")
        create(partial / split / "pairs.npy", (rows,), "<i8")
    np.save(partial / "elements.npy", np.concatenate([at.elements for at in plans]))
    np.save(partial / "colors.npy", np.concatenate([at.colors for at in plans]))
    np.save(partial / "groups.npy", np.cumsum([0, *(len(at.elements) for at in plans)], dtype=np.int64))
    (partial / _WRITTEN).touch()
    write_json(unfinished, description)
    return set()


def build(recipe: Recipe, folder: Path, workers: int, console: Console) -> dict[str, object]:
    """Writes a dataset and gives the content of dataset.json. The same recipe gives the same bytes whatever `workers`.

    Raises:
        InputError: the folder holds another dataset, or a spec is not what it must be.
    """
    tasks = load_training_tasks(recipe.train)
    known = {task.task_id for task in tasks}
    # Answers of evaluation tests are taken out before anything else sees the tasks.
    loaded = load_tasks(recipe.transductive) if recipe.transductive else []
    others = [task.without_answers() for task in loaded if task.task_id not in known]
    everything = tasks + others
    learnt = [True] * len(tasks) + [False] * len(others)
    description: dict[str, object] = {
        "recipe": recipe.__dict__,
        "fingerprint": fingerprint([*tasks, *map(without_tests, others)]),
    }
    done = folder / "dataset.json"
    if done.exists():
        stored = json.loads(done.read_text(encoding="utf-8"))
        if all(stored.get(key) == value for key, value in description.items()):
            console.print(f"{show_path(folder)} holds this dataset already", soft_wrap=True)
            return dict(stored)
        raise InputError(f"{folder} holds a dataset of another recipe; choose another --output-dir or remove it")
    began = time.perf_counter()
    plans, sizes = plan(everything, learnt, recipe, workers)
    identities = plans[-1].identity + len(plans[-1].elements)
    partial = folder.with_name(folder.name + ".partial")
    written = begin(partial, description, plans, sizes)
    parts = [plans[start : start + _TASKS_A_PART] for start in range(0, len(plans), _TASKS_A_PART)]
    left = [number for number in range(len(parts)) if number not in written]
    total, before = sum(sizes.values()), sum(num_examples(parts[number]) for number in written)
    examples, finished = before, sum(len(parts[number]) for number in written)
    with Progress(console, len(everything), "tasks", finished) as progress, (partial / _WRITTEN).open("a") as journal:
        jobs = (delayed(_write_part)(number, partial, parts[number]) for number in left)
        for number in Parallel(n_jobs=workers, return_as="generator_unordered")(jobs):
            journal.write(f"{number}\n")
            journal.flush()
            examples += num_examples(parts[number])
            finished += len(parts[number])
            rate = (examples - before) / (time.perf_counter() - began)
            progress.update(finished, f"{examples:,} of {total:,} examples, {rate:,.0f} a second")
    (partial / _WRITTEN).unlink()
    (partial / _PLAN).unlink()
    result = description | {
        "examples": sizes, "identities": identities, "task_ids": [task.task_id for task in everything],
        "transductive_ids": [task.task_id for task in others], "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    write_json(partial / "dataset.json", result)
    if folder.exists():
        folder.rmdir()  # empty, or this fails
    partial.rename(folder)
    return result


def _write_part(number: int, folder: Path, plans: Sequence[Plan]) -> int:
    write_tasks(folder, plans)
    return number
