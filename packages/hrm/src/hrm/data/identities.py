"""Puzzle identities: every task in many views, each with an embedding of its own.

I identities, X examples. A task's views depend on its id and the seed alone, so adding tasks changes none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arc_core.augment import NUM_DIHEDRAL, View, random_color_tables
from arc_core.extents import Ints
from arc_core.grid import NUM_COLORS
from arc_core.randomness import generator_for
from arc_core.tensors import TaskTensors


def task_views(task_id: str, number: int, seed: int) -> list[View]:
    """The task's own view and `number` further ones, all different."""
    views: dict[View, None] = {}
    attempt = 0
    while len(views) <= number:
        elements, tables = random_views(task_id, number, seed, attempt)
        views |= {View(e, tuple(t)): None for e, t in zip(elements.tolist(), tables.tolist(), strict=True)}
        attempt += 1
    return list(views)[: number + 1]


def random_views(task_id: str, number: int, seed: int, attempt: int) -> tuple[Ints, npt.NDArray[np.uint8]]:
    """(V,) elements and (V, 10) colour tables, some perhaps equal; attempt 0 begins with the task's own view."""
    rng = generator_for(seed, f"views of {task_id}", attempt)
    elements, tables = rng.integers(NUM_DIHEDRAL, size=number), random_color_tables(rng, number)
    if attempt == 0:
        own = View()
        elements = np.concatenate([[own.dihedral], elements])
        tables = np.concatenate([np.array([own.colors], dtype=np.uint8), tables])
    return elements, tables


@dataclass(frozen=True)
class Identities:
    """Tasks x views, a task's consecutive, its own view first. Identity i has row i + 1 of the puzzle embedding.

    Attributes:
        task_ids: of the tasks.
        groups: (tasks + 1,) task t has the identities groups[t] .. groups[t + 1] - 1.
        elements: (I,) dihedral elements.
        colors: (I, 10) uint8 colour tables.
    """

    task_ids: tuple[str, ...]
    groups: Ints
    elements: Ints
    colors: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, task_ids: Sequence[str], num_augmentations: int, seed: int) -> "Identities":
        """All identities of these tasks."""
        return cls.of_views(task_ids, [task_views(task_id, num_augmentations, seed) for task_id in task_ids])

    @classmethod
    def of_views(cls, task_ids: Sequence[str], views: Sequence[Sequence[View]]) -> "Identities":
        """Identities of each task's views."""
        flat = [view for seen in views for view in seen]
        return cls(
            tuple(task_ids),
            np.cumsum([0, *(len(seen) for seen in views)], dtype=np.int64),
            np.array([view.dihedral for view in flat], dtype=np.int64),
            np.array([view.colors for view in flat], dtype=np.uint8).reshape(-1, NUM_COLORS),
        )

    @property
    def rows(self) -> int:
        """Rows of the puzzle embedding, the blank one included."""
        return 1 + len(self.elements)

    def views(self, task: int) -> list[View]:
        """A task's."""
        part = slice(int(self.groups[task]), int(self.groups[task + 1]))
        pairs = zip(self.elements[part].tolist(), self.colors[part].tolist(), strict=True)
        return [View(element, tuple(table)) for element, table in pairs]


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
    counts = np.diff(identities.groups)[pair_task[known]]
    pairs = np.repeat(known, counts)
    views = np.arange(len(pairs)) - np.repeat(np.cumsum(counts) - counts, counts)
    numbers = identities.groups[pair_task[pairs]] + views
    is_last = numbers >= identities.groups[pair_task[pairs] + 1] - held_out_views
    held = np.repeat(is_test, counts) & is_last & (views > 0)  # the task's own view is always learnt
    whole = Examples(numbers, pairs, tensors.pair_sides[pairs])
    return whole.rows(np.flatnonzero(~held)), whole.rows(np.flatnonzero(held))
