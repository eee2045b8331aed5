"""Which rows of a dataset's files each task's examples take, and writing them there.

All is known before the first row is written, so any process may write any task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed

from arc_core.augment import NUM_DIHEDRAL
from arc_core.extents import Ints
from arc_core.grid import NUM_COLORS
from arc_core.task import Task
from hrm.data.npy_writer import write_rows
from hrm.data.tokens import FIRST_COLOR
from hrm.data.unique_views import CELLS, Bytes, distinct_views, turned_tokens

SPLITS = ("train", "val", "test")


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
class Block:
    """Some pairs of a task in some of its views, which lie together in one split.

    Attributes:
        views: of the task, from 0.
        pairs: of the task, from 0.
    """

    split: str
    views: range
    pairs: range


def blocks_of(task: Task, views: int, learnt: bool, held_out_views: int) -> list[Block]:
    """All that is written of a task.

    Args:
        views: how many it has.
        learnt: whether its tests are learnt; else their inputs are kept apart, without labels.
        held_out_views: of the last views the tests make the split "val".
    """
    shown, every = range(len(task.train)), range(len(task.train) + len(task.test))
    tests = range(len(task.train), len(every))
    if not learnt:
        return [Block("train", range(views), shown), Block("test", range(views), tests)]
    whole = views - min(held_out_views, views - 1)
    last = range(whole, views)
    return [Block("train", range(whole), every), Block("train", last, shown), Block("val", last, tests)]


@dataclass(frozen=True)
class Plan:
    """Where everything of a task goes.

    Attributes:
        identity: number of its first view.
        first_pair: number of its first pair among all pairs that may be learnt.
        blocks: what is written, with the row where each begins.
    """

    task: Task
    elements: Ints
    colors: Bytes
    identity: int
    first_pair: int
    blocks: list[tuple[Block, int]]


def plan(
    tasks: Sequence[Task], learnt: Sequence[bool], recipe: Recipe, workers: int
) -> tuple[list[Plan], dict[str, int]]:
    """Where every task goes, and how many rows each split has."""
    views = Parallel(n_jobs=workers)(delayed(distinct_views)(task, recipe.num_aug, recipe.seed) for task in tasks)
    plans: list[Plan] = []
    rows, identity, pair = dict.fromkeys(SPLITS, 0), 0, 0
    for task, with_tests, (elements, colors) in zip(tasks, learnt, views, strict=True):
        blocks = []
        for block in blocks_of(task, len(elements), with_tests, recipe.held_out_views):
            blocks.append((block, rows[block.split]))
            rows[block.split] += len(block.views) * len(block.pairs)
        plans.append(Plan(task, elements, colors, identity, pair, blocks))
        identity += len(elements)
        pair += len(task.train) + len(task.test) * with_tests
    return plans, rows


def num_examples(plans: Sequence[Plan]) -> int:
    """Of some tasks."""
    return sum(len(block.views) * len(block.pairs) for at in plans for block, _ in at.blocks)


def write_tasks(folder: Path, plans: Sequence[Plan]) -> None:
    """Writes tasks into their rows."""
    torch.set_num_threads(1)  # one process a core
    for at in plans:
        tokens = turned_tokens(at.task).reshape(NUM_DIHEDRAL, -1, 2, CELLS)
        to_tokens = np.tile(np.arange(256, dtype=np.uint8), (len(at.colors), 1))
        to_tokens[:, FIRST_COLOR : FIRST_COLOR + NUM_COLORS] = at.colors + FIRST_COLOR
        tables = [row.tobytes() for row in to_tokens]
        for block, start in at.blocks:
            views, pairs = np.arange(block.views.start, block.views.stop), np.array(block.pairs)
            for side, name in enumerate(("inputs", "labels")):
                if name == "labels" and block.split == "test":
                    continue  # there are none: zeros, which is padding
                turned = [part.tobytes() for part in tokens[:, pairs, side]]
                rows = (turned[at.elements[view]].translate(tables[view]) for view in block.views)
                write_rows(folder / block.split / f"{name}.npy", start, b"".join(rows))
            first = pairs - len(at.task.train) if block.split == "test" else at.first_pair + pairs
            write_rows(folder / block.split / "identities.npy", start, np.repeat(at.identity + views, len(pairs)))
            write_rows(folder / block.split / "pairs.npy", start, np.tile(first, len(views)))
