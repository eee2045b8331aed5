"""`build-arc-dataset`: augmented puzzles on disk, as memory-mapped arrays.

A folder holds for each split (train, val, test) `inputs.npy` and `labels.npy` (X, 900) uint8 tokens with grids at the
top left (they are moved when read), `identities.npy` and `pairs.npy` (X,) int64; and for all of them the views,
`elements.npy` (I,) and `colors.npy` (I, 10), and where each task's begin, `groups.npy` (tasks + 1,). Pairs are numbered
over all pairs that may be learnt; in "test" from each task's first test. `dataset.json` is written last; without it the
folder is no dataset. Until then everything is in DIR.partial, where the same command continues after an interruption.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from joblib import delayed
from rich.console import Console

from arc_core.datasets import fingerprint, load_tasks, load_training_tasks
from arc_core.errors import InputError
from arc_core.files import show_path, write_json
from arc_core.progress import Progress
from arc_core.workers import run_in_workers
from hrm.data.dataset_layout import Recipe, TaskPlan, count_examples, plan_tasks, write_tasks
from hrm.data.npy_writer import create_npy
from hrm.data.training_data import remove_tests
from hrm.data.unique_views import CELLS

_TASKS_PER_PART = 4
_UNFINISHED, _PARTS_WRITTEN = "unfinished.json", "parts_written.txt"


def prepare_folder(
    partial: Path, description: dict[str, object], plans: Sequence[TaskPlan], num_rows: dict[str, int]
) -> set[int]:
    """Prepares the unfinished dataset's folder for a build, or keeps that of an interrupted build of the same recipe.

    Args:
        partial: the folder.
        description: recipe and fingerprint of the tasks.
        plans: of all tasks.
        num_rows: rows of each split.
    Returns:
        indices of the parts that are written already.
    """
    unfinished = partial / _UNFINISHED
    if unfinished.exists() and json.loads(unfinished.read_text(encoding="utf-8")) == description:
        return {int(line) for line in (partial / _PARTS_WRITTEN).read_text(encoding="utf-8").split()}
    shutil.rmtree(partial, ignore_errors=True)
    for split, rows in num_rows.items():
        (partial / split).mkdir(parents=True)
        create_npy(partial / split / "inputs.npy", (rows, CELLS), "u1")
        create_npy(partial / split / "labels.npy", (rows, CELLS), "u1")
        create_npy(partial / split / "identities.npy", (rows,), "<i8")
        create_npy(partial / split / "pairs.npy", (rows,), "<i8")
    np.save(partial / "elements.npy", np.concatenate([plan.elements for plan in plans]))
    np.save(partial / "colors.npy", np.concatenate([plan.colors for plan in plans]))
    np.save(partial / "groups.npy", np.cumsum([0, *(len(plan.elements) for plan in plans)], dtype=np.int64))
    (partial / _PARTS_WRITTEN).touch()
    write_json(unfinished, description)
    return set()


def build_dataset(recipe: Recipe, folder: Path, workers: int, console: Console) -> dict[str, object]:
    """Writes a dataset. The same recipe gives the same bytes whatever the number of workers.

    Args:
        recipe: what to write.
        folder: the dataset's folder; it must be empty or missing, or hold this very dataset.
        workers: processes.
        console: shows the progress.
    Returns:
        the content of dataset.json.
    Raises:
        InputError: the folder holds another dataset, or a spec is not what it must be.
    """
    tasks = load_training_tasks(recipe.train)
    training_ids = {task.task_id for task in tasks}
    # Answers of evaluation tests are taken out before anything else sees the tasks.
    loaded = load_tasks(recipe.transductive) if recipe.transductive else []
    transductive = [task.without_answers() for task in loaded if task.task_id not in training_ids]
    all_tasks = tasks + transductive
    learn_tests = [True] * len(tasks) + [False] * len(transductive)
    description: dict[str, object] = {
        "recipe": recipe.__dict__,
        "fingerprint": fingerprint([*tasks, *map(remove_tests, transductive)]),
    }
    finished_file = folder / "dataset.json"
    if finished_file.exists():
        stored = json.loads(finished_file.read_text(encoding="utf-8"))
        if all(stored.get(key) == value for key, value in description.items()):
            console.print(f"{show_path(folder)} holds this dataset already", soft_wrap=True)
            return dict(stored)
        raise InputError(f"{folder} holds a dataset of another recipe; choose another --output-dir or remove it")
    start_time = time.perf_counter()
    plans, num_rows = plan_tasks(all_tasks, learn_tests, recipe, workers)
    num_identities = plans[-1].first_identity + len(plans[-1].elements)
    partial = folder.with_name(folder.name + ".partial")
    written = prepare_folder(partial, description, plans, num_rows)
    parts = [plans[start : start + _TASKS_PER_PART] for start in range(0, len(plans), _TASKS_PER_PART)]
    missing = [index for index in range(len(parts)) if index not in written]
    total, resumed_at = sum(num_rows.values()), sum(count_examples(parts[index]) for index in written)
    examples, tasks_done = resumed_at, sum(len(parts[index]) for index in written)
    with (
        Progress(console, len(all_tasks), "tasks", tasks_done) as progress,
        (partial / _PARTS_WRITTEN).open("a") as journal,
    ):
        jobs = (delayed(_write_part)(index, partial, parts[index]) for index in missing)
        for index in run_in_workers(jobs, workers, return_as="generator_unordered"):
            journal.write(f"{index}\n")
            journal.flush()
            examples += count_examples(parts[index])
            tasks_done += len(parts[index])
            rate = (examples - resumed_at) / (time.perf_counter() - start_time)
            progress.update(tasks_done, f"{examples:,} of {total:,} examples, {rate:,.0f} a second")
    (partial / _PARTS_WRITTEN).unlink()
    (partial / _UNFINISHED).unlink()
    result = description | {
        "examples": num_rows, "identities": num_identities, "task_ids": [task.task_id for task in all_tasks],
        "transductive_ids": [task.task_id for task in transductive],
        "seconds": round(time.perf_counter() - start_time, 1),
    }  # fmt: skip
    write_json(partial / "dataset.json", result)
    if folder.exists():
        folder.rmdir()  # empty, or this fails
    partial.rename(folder)
    return result


def _write_part(index: int, folder: Path, plans: Sequence[TaskPlan]) -> int:
    write_tasks(folder, plans)
    return index
