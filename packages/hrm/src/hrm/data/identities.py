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


def draw_task_views(task_id: str, num_augmentations: int, seed: int) -> list[View]:
    """Draws a task's views, all different.

    Args:
        task_id: views are a function of it and the seed alone.
        num_augmentations: views beside the task's own.
        seed: of the views.
    Returns:
        1 + num_augmentations views, the task's own first.
    """
    views: dict[View, None] = {}
    attempt = 0
    while len(views) <= num_augmentations:
        elements, tables = draw_random_views(task_id, num_augmentations, seed, attempt)
        views |= {View(e, tuple(t)): None for e, t in zip(elements.tolist(), tables.tolist(), strict=True)}
        attempt += 1
    return list(views)[: num_augmentations + 1]


def draw_random_views(task_id: str, count: int, seed: int, attempt: int) -> tuple[Ints, npt.NDArray[np.uint8]]:
    """Draws views, some perhaps equal.

    Args:
        task_id, seed: see `draw_task_views`.
        count: views to draw.
        attempt: number of the draw, from 0; attempt 0 has the task's own view in front.
    Returns:
        (V,) dihedral elements and (V, 10) uint8 colour tables.
    """
    rng = generator_for(seed, f"views of {task_id}", attempt)
    elements, tables = rng.integers(NUM_DIHEDRAL, size=count), random_color_tables(rng, count)
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
    def from_task_ids(cls, task_ids: Sequence[str], num_augmentations: int, seed: int) -> "Identities":
        """Draws the views of all tasks, see `draw_task_views`.

        Args:
            task_ids: of the tasks.
            num_augmentations: views of each beside its own.
            seed: of the views.
        """
        return cls.from_views(task_ids, [draw_task_views(task_id, num_augmentations, seed) for task_id in task_ids])

    @classmethod
    def from_views(cls, task_ids: Sequence[str], views: Sequence[Sequence[View]]) -> "Identities":
        """Builds the identities of each task's given views."""
        flat = [view for views_of_task in views for view in views_of_task]
        return cls(
            tuple(task_ids),
            np.cumsum([0, *map(len, views)], dtype=np.int64),
            np.array([view.dihedral for view in flat], dtype=np.int64),
            np.array([view.colors for view in flat], dtype=np.uint8).reshape(-1, NUM_COLORS),
        )

    @property
    def num_embeddings(self) -> int:
        """Rows of the puzzle embedding, the blank one included."""
        return 1 + len(self.elements)

    def views(self, task_index: int) -> list[View]:
        """Returns the views of one task, its own first."""
        part = slice(int(self.groups[task_index]), int(self.groups[task_index + 1]))
        pairs = zip(self.elements[part].tolist(), self.colors[part].tolist(), strict=True)
        return [View(element, tuple(table)) for element, table in pairs]


@dataclass(frozen=True)
class Examples:
    """Pairs in views, each a puzzle to learn or to validate on.

    Attributes:
        identities: (X,) indices of identities, from 0.
        pairs: (X,) indices of pairs of a TaskTensors.
        sides: (X,) the longest side of input and output, in cells.
    """

    identities: Ints
    pairs: Ints
    sides: Ints

    def __len__(self) -> int:
        return len(self.pairs)

    def select(self, indices: Ints) -> "Examples":
        """Returns the examples of these indices, in their order."""
        return Examples(self.identities[indices], self.pairs[indices], self.sides[indices])


def make_examples(tensors: TaskTensors, identities: Identities, held_out_views: int) -> tuple[Examples, Examples]:
    """Makes the examples to train on, and those held out: the test pairs of each task's last views.

    The embedding of a held-out example's view is learnt from the demonstrations in that view, and its pair may be
    learnt in other views; the two never meet in training. Pairs whose output is withheld are in neither.

    Args:
        tensors: the tasks.
        identities: of the same tasks, in the same order.
        held_out_views: how many of each task's last views are held out; a task's own view never is.
    Returns:
        the training examples and the held-out ones.
    """
    pairs_per_task = np.diff(tensors.first_pair)
    task_of_pair = np.repeat(np.arange(len(pairs_per_task)), pairs_per_task)
    solved = np.flatnonzero(tensors.grid_sizes[1::2, 0] > 0)  # pairs whose output is given
    is_test = solved - tensors.first_pair[task_of_pair[solved]] >= tensors.num_train[task_of_pair[solved]]
    counts = np.diff(identities.groups)[task_of_pair[solved]]
    pairs = np.repeat(solved, counts)
    views = np.arange(len(pairs)) - np.repeat(np.cumsum(counts) - counts, counts)
    indices = identities.groups[task_of_pair[pairs]] + views
    is_last_view = indices >= identities.groups[task_of_pair[pairs] + 1] - held_out_views
    is_held_out = np.repeat(is_test, counts) & is_last_view & (views > 0)
    examples = Examples(indices, pairs, tensors.pair_sides[pairs])
    return examples.select(np.flatnonzero(~is_held_out)), examples.select(np.flatnonzero(is_held_out))
