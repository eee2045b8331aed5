"""Puzzle identities: every task in many views, each with an embedding of its own.

I identities, X examples. A task's views depend on its id and the seed alone, so adding tasks changes none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arc_core.augment import NUM_DIHEDRAL, View, random_color_tables
from arc_core.extents import Ints
from arc_core.randomness import generator_for
from arc_core.tensors import TaskTensors

BLANK = 0  # the embedding's row of no identity


def task_views(task_id: str, number: int, seed: int) -> list[View]:
    """The task's own view and `number` further ones, all different."""
    views = {View(): None}
    rng = generator_for(seed, f"views of {task_id}", 0)
    while len(views) <= number:
        elements = rng.integers(NUM_DIHEDRAL, size=number)
        tables = random_color_tables(rng, number)
        for element, table in zip(elements.tolist(), tables.tolist(), strict=True):
            views.setdefault(View(element, tuple(table)))
    return list(views)[: number + 1]


@dataclass(frozen=True)
class Identities:
    """Tasks x views, a task's consecutive, its own view first.

    Attributes:
        task_ids: of the tasks.
        views_per_task: number of views of each.
        elements: (I,) dihedral elements.
        colors: (I, 10) uint8 colour tables.
    """

    task_ids: tuple[str, ...]
    views_per_task: int
    elements: Ints
    colors: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, task_ids: Sequence[str], num_augmentations: int, seed: int) -> "Identities":
        """All identities of these tasks."""
        views = [view for task_id in task_ids for view in task_views(task_id, num_augmentations, seed)]
        return cls(
            tuple(task_ids),
            num_augmentations + 1,
            np.array([view.dihedral for view in views], dtype=np.int64),
            np.array([view.colors for view in views], dtype=np.uint8),
        )

    @property
    def rows(self) -> int:
        """Rows of the puzzle embedding, the blank one included."""
        return 1 + len(self.elements)

    def row(self, task: int, view: int) -> int:
        """The embedding's row of a task's view."""
        return 1 + task * self.views_per_task + view


@dataclass(frozen=True)
class Examples:
    """Pairs in views, each a puzzle to learn or to validate on.

    Attributes:
        identities: (X,) identity numbers, from 0.
        pairs: (X,) pair numbers of a TaskTensors.
        sides: (X,) the longest side of input and output.
    """

    identities: Ints
    pairs: Ints
    sides: Ints

    def __len__(self) -> int:
        return len(self.pairs)

    def rows(self, index: Ints) -> "Examples":
        """Some of them."""
        return Examples(self.identities[index], self.pairs[index], self.sides[index])


def make_examples(tensors: TaskTensors, identities: Identities, held_out_views: int) -> tuple[Examples, Examples]:
    """Examples to train on, and those held out: the test pairs of each task's last views.

    The embedding of a held-out example's view is learnt from the demonstrations in that view, and its pair may be
    learnt in other views; the two never meet in training. Pairs whose output is withheld are in neither.
    """
    pairs_of = np.diff(tensors.first_pair)
    pair_task = np.repeat(np.arange(len(pairs_of)), pairs_of)
    known = np.flatnonzero(tensors.grid_sizes[1::2, 0] > 0)
    is_test = known - tensors.first_pair[pair_task[known]] >= tensors.num_train[pair_task[known]]
    per_task = identities.views_per_task
    views = np.tile(np.arange(per_task), len(known))
    pairs = np.repeat(known, per_task)
    held = np.repeat(is_test, per_task) & (views >= per_task - held_out_views)
    numbers = pair_task[pairs] * per_task + views
    sides = tensors.grid_sizes.reshape(-1, 4).max(axis=1)[pairs]
    whole = Examples(numbers, pairs, sides)
    return whole.rows(np.flatnonzero(~held)), whole.rows(np.flatnonzero(held))
