"""Which rows of a dataset's files each task's examples take, and writing them there.

All is known before the first row is written, so any process may write any task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import delayed

from arc_core.augment import NUM_DIHEDRAL
from arc_core.extents import Ints
from arc_core.grid import NUM_COLORS
from arc_core.task import Task
from arc_core.workers import run_in_workers
from hrm.data.npy_writer import write_rows
from hrm.data.tokens import FIRST_COLOR
from hrm.data.unique_views import CELLS, Bytes, draw_unique_views, encode_all_turns

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Recipe:
    """Everything that a dataset's content depends on. Stored in dataset.json under these names.

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
class Block:
    """Some pairs of a task in some of its views, which lie together in one split.

    Attributes:
        split: one of SPLITS.
        views: indices of the task's views, from 0.
        pairs: indices of the task's pairs, from 0.
    """

    split: str
    views: range
    pairs: range


@dataclass(frozen=True)
class TaskPlan:
    """Where everything of a task is written.

    Attributes:
        task: the task.
        elements, colors: (V,) dihedral elements and (V, 10) colour tables of its views.
        first_identity: index of its first view among all views.
        first_pair: index of its first pair among all pairs that may be learnt.
        blocks: what is written, with the row where each begins.
    """

    task: Task
    elements: Ints
    colors: Bytes
    first_identity: int
    first_pair: int
    blocks: list[tuple[Block, int]]


def plan_blocks(task: Task, num_views: int, learn_tests: bool, held_out_views: int) -> list[Block]:
    """Lists all blocks that are written of a task.

    Args:
        task: the task.
        num_views: how many views it has.
        learn_tests: whether its tests are learnt; otherwise their inputs are kept apart, without labels.
        held_out_views: of the last views the tests make the split "val".
    """
    demonstrations, all_pairs = range(len(task.train)), range(len(task.train) + len(task.test))
    tests = range(len(task.train), len(all_pairs))
    if not learn_tests:
        return [Block("train", range(num_views), demonstrations), Block("test", range(num_views), tests)]
    first_held_out = num_views - min(held_out_views, num_views - 1)
    last = range(first_held_out, num_views)
    return [
        Block("train", range(first_held_out), all_pairs),
        Block("train", last, demonstrations),
        Block("val", last, tests),
    ]


def plan_tasks(
    tasks: Sequence[Task], learn_tests: Sequence[bool], recipe: Recipe, workers: int
) -> tuple[list[TaskPlan], dict[str, int]]:
    """Plans where every task is written.

    Args:
        tasks: in the order of their rows.
        learn_tests: for each task, see `plan_blocks`.
        recipe: of the dataset.
        workers: processes that draw views.
    Returns:
        a plan of each task, and how many rows each split has.
    """
    jobs = (delayed(draw_unique_views)(task, recipe.num_aug, recipe.seed) for task in tasks)
    views = run_in_workers(jobs, workers)
    plans: list[TaskPlan] = []
    num_rows, identity, pair = dict.fromkeys(SPLITS, 0), 0, 0
    for task, with_tests, (elements, colors) in zip(tasks, learn_tests, views, strict=True):
        blocks = []
        for block in plan_blocks(task, len(elements), with_tests, recipe.held_out_views):
            blocks.append((block, num_rows[block.split]))
            num_rows[block.split] += len(block.views) * len(block.pairs)
        plans.append(TaskPlan(task, elements, colors, identity, pair, blocks))
        identity += len(elements)
        pair += len(task.train) + len(task.test) * with_tests
    return plans, num_rows


def count_examples(plans: Sequence[TaskPlan]) -> int:
    """Counts the examples of some tasks, over all splits."""
    return sum(len(block.views) * len(block.pairs) for plan in plans for block, _ in plan.blocks)


def write_tasks(folder: Path, plans: Sequence[TaskPlan]) -> None:
    """Writes the examples of some tasks into their rows of a dataset's files."""
    torch.set_num_threads(1)  # one process a core
    for plan in plans:
        tokens = encode_all_turns(plan.task).reshape(NUM_DIHEDRAL, -1, 2, CELLS)
        to_tokens = np.tile(np.arange(256, dtype=np.uint8), (len(plan.colors), 1))
        to_tokens[:, FIRST_COLOR : FIRST_COLOR + NUM_COLORS] = plan.colors + FIRST_COLOR
        tables = [row.tobytes() for row in to_tokens]
        for block, start in plan.blocks:
            views, pairs = np.arange(block.views.start, block.views.stop), np.array(block.pairs)
            for side, name in enumerate(("inputs", "labels")):
                if name == "labels" and block.split == "test":
                    continue  # there are none: zeros, which is padding
                turns = [part.tobytes() for part in tokens[:, pairs, side]]
                rows = (turns[plan.elements[view]].translate(tables[view]) for view in block.views)
                write_rows(folder / block.split / f"{name}.npy", start, b"".join(rows))
            stored_pairs = pairs - len(plan.task.train) if block.split == "test" else plan.first_pair + pairs
            identities = np.repeat(plan.first_identity + views, len(pairs))
            write_rows(folder / block.split / "identities.npy", start, identities)
            write_rows(folder / block.split / "pairs.npy", start, np.tile(stored_pairs, len(views)))
