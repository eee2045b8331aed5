"""`build-arc-dataset`: augmented puzzles on disk, as memory-mapped arrays.

A folder holds for each split (train, val, test) `inputs.npy` and `labels.npy` (X, 900) uint8 tokens with grids at the
top left (they are moved when read), `identities.npy` and `pairs.npy` (X,) int64; and for all of them the views,
`elements.npy` (I,) and `colors.npy` (I, 10), and where each task's begin, `groups.npy` (tasks + 1,). Pairs are numbered
over all pairs that may be learnt; in "test" from each task's first test. `dataset.json` is written last; without it the
folder is no dataset. A build that was interrupted is begun again by the same command.
"""

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from rich.console import Console

from arc_core.datasets import fingerprint, load_tasks, load_training_tasks
from arc_core.errors import InputError, run_command
from arc_core.extents import Ints
from arc_core.files import show_path, write_json
from arc_core.grid import MAX_SIDE
from arc_core.progress import Progress
from arc_core.task import Task
from arc_core.tensors import TaskTensors
from hrm.columns import Column
from hrm.identities import random_views
from hrm.split import without_tests
from hrm.tokens import encode

CELLS = MAX_SIDE**2
SPLITS = ("train", "val", "test")
_TASKS_A_CHUNK = 8
_RETRIES = 5  # times as many views as asked for are tried before a symmetric task gets fewer
_EXAMPLES_AT_ONCE = 4096


@dataclass(frozen=True)
class Recipe:
    """What a dataset is made from; all that its content depends on.

    Attributes:
        train: data spec, whose pairs are all learnt.
        transductive: data spec whose demonstrations alone are learnt, and whose test inputs make the split "test".
        num_aug: views of each task beside its own.
        held_out_views: of each task's last views the test pairs make the split "val".
        seed: of the views.
    """

    train: str
    transductive: str | None
    num_aug: int
    held_out_views: int
    seed: int


@dataclass(frozen=True)
class Chunk:
    """Examples of some consecutive tasks, by split."""

    elements: Ints
    colors: np.ndarray
    views: list[int]
    rows: dict[str, tuple[np.ndarray, np.ndarray, Ints, Ints]]


def distinct_views(
    task: Task, tensors: TaskTensors, number: int, num_aug: int, seed: int
) -> tuple[Ints, np.ndarray, torch.Tensor]:
    """The task's own view and up to `num_aug` that show other grids: elements, colours, and all their tokens.

    Returns:
        (V,) elements, (V, 10) colours, (V, grids, 900) uint8 tokens.
    """
    first, end = 2 * int(tensors.first_pair[number]), 2 * int(tensors.first_pair[number + 1])
    grids = torch.arange(first, end)
    seen: set[bytes] = set()
    kept: list[tuple[int, np.ndarray, torch.Tensor]] = []
    for attempt in range(_RETRIES):
        elements, colors = random_views(task.task_id, num_aug, seed, attempt)
        for start in range(0, len(elements), max(1, _EXAMPLES_AT_ONCE // len(grids))):
            part = slice(start, start + max(1, _EXAMPLES_AT_ONCE // len(grids)))
            count = len(elements[part])
            canvas, sizes = tensors.gather(
                grids.repeat(count),
                torch.from_numpy(elements[part].repeat(len(grids))),
                torch.from_numpy(colors[part].repeat(len(grids), axis=0)),
                MAX_SIDE,
            )
            tokens = encode(canvas, sizes).view(count, len(grids), CELLS)
            for row, content in enumerate(tokens.numpy()):
                key = hashlib.blake2b(content.tobytes(), digest_size=16).digest()
                if key not in seen:
                    seen.add(key)
                    kept.append((int(elements[start + row]), colors[start + row], tokens[row]))
                    if len(kept) > num_aug:
                        return _stacked(kept)
    return _stacked(kept)


def _stacked(kept: Sequence[tuple[int, np.ndarray, torch.Tensor]]) -> tuple[Ints, np.ndarray, torch.Tensor]:
    elements, colors, tokens = zip(*kept, strict=True)
    return np.array(elements, dtype=np.int64), np.stack(colors), torch.stack(tokens)


def build_chunk(tasks: Sequence[Task], learnt: Sequence[bool], firsts: Ints, recipe: Recipe) -> Chunk:
    """The examples of some tasks; identities are numbered from 0 within the chunk.

    Args:
        learnt: whether a task's tests are learnt; of the others the test inputs are kept apart, without labels.
        firsts: number of each task's first pair among all pairs that may be learnt.
    """
    torch.set_num_threads(1)
    tensors = TaskTensors.from_tasks(tasks)
    found: dict[str, list[tuple[np.ndarray, np.ndarray, Ints, Ints]]] = {split: [] for split in SPLITS}
    elements, colors, views, base = [], [], [], 0
    for number, (task, with_tests, first) in enumerate(zip(tasks, learnt, firsts.tolist(), strict=True)):
        turned, tables, tokens = distinct_views(task, tensors, number, recipe.num_aug, recipe.seed)
        elements.append(turned)
        colors.append(tables)
        views.append(len(turned))
        pairs = tokens.numpy().reshape(len(turned), -1, 2, CELLS)
        shown = len(task.train)
        held = min(recipe.held_out_views, len(turned) - 1) if with_tests else 0
        numbers = np.arange(base, base + len(turned))
        columns = np.arange(pairs.shape[1])
        parts = {
            "train": np.tile((columns < shown) | with_tests, (len(turned), 1)),
            "val": np.zeros(pairs.shape[:2], dtype=bool),
            "test": np.tile((columns >= shown) & (not with_tests), (len(turned), 1)),
        }
        if held:
            parts["train"][-held:, shown:] = False
            parts["val"][-held:, shown:] = True
        for split, chosen in parts.items():
            labels = pairs[chosen][:, 1] if split != "test" else np.zeros((int(chosen.sum()), CELLS), dtype=np.uint8)
            views_of, columns_of = np.nonzero(chosen)
            places = columns_of - shown if split == "test" else first + columns_of
            found[split].append((pairs[chosen][:, 0], labels, numbers[views_of], places))
        base += len(turned)
    rows = {
        split: tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True)) for split, parts in found.items()
    }
    return Chunk(np.concatenate(elements), np.concatenate(colors), views, rows)  # type: ignore[arg-type]


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
    description = {"recipe": recipe.__dict__, "fingerprint": fingerprint([*tasks, *map(without_tests, others)])}
    done = folder / "dataset.json"
    if done.exists():
        stored = json.loads(done.read_text(encoding="utf-8"))
        if all(stored.get(key) == value for key, value in description.items()):
            console.print(f"{show_path(folder)} holds this dataset already")
            return dict(stored)
        raise InputError(f"{folder} holds a dataset of another recipe; choose another --output-dir or remove it")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for split in SPLITS:
        (partial / split).mkdir(parents=True)
    counts = [len(task.train) + len(task.test) * whole for task, whole in zip(everything, learnt, strict=True)]
    firsts = np.cumsum(counts) - counts
    jobs = (
        delayed(build_chunk)(everything[part], learnt[part], firsts[part], recipe)
        for part in (slice(start, start + _TASKS_A_CHUNK) for start in range(0, len(everything), _TASKS_A_CHUNK))
    )
    files = {
        split: (
            Column(partial / split / "inputs.npy", (CELLS,), "u1"),
            Column(partial / split / "labels.npy", (CELLS,), "u1"),
            Column(partial / split / "identities.npy", (), "<i8"),
            Column(partial / split / "pairs.npy", (), "<i8"),
        )
        for split in SPLITS
    }
    shared = Column(partial / "elements.npy", (), "<i8"), Column(partial / "colors.npy", (10,), "u1")
    groups, began, examples = [0], time.perf_counter(), 0
    with Progress(console, len(everything), "tasks") as progress:
        # Chunks come in order and a few at a time, so memory stays flat.
        chunks = Parallel(n_jobs=workers, return_as="generator", pre_dispatch="2 * n_jobs")(jobs)
        for chunk in chunks:
            base = groups[-1]
            for split, columns in files.items():
                inputs, labels, identities, pairs = chunk.rows[split]
                for column, rows in zip(columns, (inputs, labels, identities + base, pairs), strict=True):
                    column.append(rows)
                examples += len(inputs)
            shared[0].append(chunk.elements)
            shared[1].append(chunk.colors)
            for number in chunk.views:
                groups.append(groups[-1] + number)
            rate = examples / (time.perf_counter() - began)
            progress.update(len(groups) - 1, f"{examples:,} examples, {rate:,.0f} a second")
    sizes = {split: columns[0].close() for split, columns in files.items()}
    for columns in files.values():
        for column in columns[1:]:
            column.close()
    for column in shared:
        column.close()
    np.save(partial / "groups.npy", np.array(groups, dtype=np.int64))
    result: dict[str, object] = description | {
        "examples": sizes, "identities": groups[-1], "task_ids": [task.task_id for task in everything],
        "transductive_ids": [task.task_id for task in others], "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    write_json(partial / "dataset.json", result)
    if folder.exists():
        folder.rmdir()  # empty, or this fails
    partial.rename(folder)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The command `build-arc-dataset`."""
    parser = argparse.ArgumentParser(
        "build-arc-dataset",
        description="Write augmented ARC puzzles as memory-mapped arrays. Training needs none of this: by default it "
        "makes the same views on the fly.",
        epilog="example: uv run build-arc-dataset --output-dir data/arc-aug-1000 --num-aug 1000 --seed 42",
    )
    parser.add_argument("--data", default="arc1:train", metavar="SPEC", help="training set (default arc1:train)")
    parser.add_argument("--dataset-dirs", nargs="+", type=Path, metavar="DIR", help="folders of ARC JSON, instead")
    parser.add_argument(
        "--transductive", metavar="SPEC", help="learn the demonstrations of these tasks too, never their tests"
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--num-aug", type=int, default=1000, help="views of each task beside its own (default 1000)")
    parser.add_argument("--held-out-views", type=int, default=1, help="views whose tests are kept for val (default 1)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: one a core)")
    args = parser.parse_args(argv)
    return run_command(lambda: _build(args, Console(emoji=False)))


def _build(args: argparse.Namespace, console: Console) -> int:
    for name in ("num_aug", "held_out_views"):
        if getattr(args, name) < 0:
            raise InputError(f"--{name.replace('_', '-')} must be at least 0; got {getattr(args, name)}")
    if args.held_out_views > args.num_aug:
        raise InputError(f"--held-out-views must be at most --num-aug {args.num_aug}; got {args.held_out_views}")
    spec = "+".join(f"dir:{path}" for path in args.dataset_dirs) if args.dataset_dirs else args.data
    recipe = Recipe(spec, args.transductive, args.num_aug, args.held_out_views, args.seed)
    result = build(recipe, args.output_dir, args.workers, console)
    sizes, seconds = result["examples"], result["seconds"]
    assert isinstance(sizes, dict) and isinstance(seconds, float)
    total = sum(sizes.values())
    console.print(
        f"{total:,} examples ({', '.join(f'{name} {count:,}' for name, count in sizes.items())}) of "
        f"{result['identities']:,} identities in {seconds:.1f} s, {total / max(seconds, 0.1):,.0f} a second\n"
        f"written to {show_path(args.output_dir)}\n"
        f"next: uv run --package hrm train-hrm --data.dataset {show_path(args.output_dir)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
