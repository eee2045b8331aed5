"""Views of a task: the 8 dihedral elements times the colour permutations, applied to numpy grids.

A dihedral element is `R^k T^s`: transpose if s, then rotate k quarter turns counter-clockwise; its index is
`k + 4 s`. `arc_core.tensors` transforms torch batches by the same indices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import factorial

import numpy as np
import numpy.typing as npt

from arc_core.grid import NUM_COLORS, Grid
from arc_core.task import Pair, Task

NUM_DIHEDRAL = 8
VIEWS_WITH_FIXED_BACKGROUND = NUM_DIHEDRAL * factorial(NUM_COLORS - 1)  # 2,903,040
VIEWS = NUM_DIHEDRAL * factorial(NUM_COLORS)  # 29,030,400

IDENTITY_COLORS = tuple(range(NUM_COLORS))


def dihedral(grid: Grid, element: int) -> Grid:
    """Transforms a grid by dihedral element 0..7; returns a contiguous copy."""
    transposed = grid.T if element >= 4 else grid
    return np.ascontiguousarray(np.rot90(transposed, element % 4))


def compose_dihedral(after: int, before: int) -> int:
    """Returns the element that equals `before` first, then `after`; as T R = R^-1 T, rotations subtract past a T."""
    turns = after % 4 + (-(before % 4) if after >= 4 else before % 4)
    return turns % 4 + 4 * ((after // 4 + before // 4) % 2)


def invert_dihedral(element: int) -> int:
    """Returns the inverse of an element; reflections are their own."""
    return element if element >= 4 else -element % 4


@dataclass(frozen=True)
class View:
    """One way to look at a task: transform every grid by a dihedral element, then permute its colours.

    Attributes:
        dihedral: dihedral element 0..7, see the module.
        colors: permutation of 0..9; `colors[c]` replaces colour c.
    """

    dihedral: int = 0
    colors: tuple[int, ...] = IDENTITY_COLORS

    def __post_init__(self) -> None:
        if not 0 <= self.dihedral < NUM_DIHEDRAL:
            raise ValueError(f"dihedral element must be 0..7; got {self.dihedral}")
        if sorted(self.colors) != list(IDENTITY_COLORS):
            raise ValueError(f"colours must be a permutation of 0..9; got {self.colors}")

    def apply(self, grid: Grid) -> Grid:
        """Returns the grid in this view."""
        return np.array(self.colors, dtype=np.uint8)[dihedral(grid, self.dihedral)]

    def compose(self, before: "View") -> "View":
        """Returns the view that equals `before` first, then this one."""
        return View(
            compose_dihedral(self.dihedral, before.dihedral),
            tuple(self.colors[color] for color in before.colors),
        )

    def inverse(self) -> "View":
        """Returns the view that undoes this one."""
        colors = [0] * NUM_COLORS
        for old, new in enumerate(self.colors):
            colors[new] = old
        return View(invert_dihedral(self.dihedral), tuple(colors))

    def apply_to_task(self, task: Task) -> Task:
        """Returns the task with every grid in this view."""

        def transform(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
            return tuple(Pair(self.apply(p.input), None if p.output is None else self.apply(p.output)) for p in pairs)

        return replace(task, train=transform(task.train), test=transform(task.test))


def view_from_index(index: int, fix_background: bool = True) -> View:
    """Returns the view with an index in the enumeration of all views; index 0 is the identity.

    Args:
        index: 0 .. 2,903,040 - 1 with colour 0 fixed, else 0 .. 29,030,400 - 1.
        fix_background: enumerate only views that keep colour 0.
    Raises:
        ValueError: the index is out of range.
    """
    total = VIEWS_WITH_FIXED_BACKGROUND if fix_background else VIEWS
    if not 0 <= index < total:
        raise ValueError(f"view index must be 0..{total - 1}; got {index}")
    rank, element = divmod(index, NUM_DIHEDRAL)
    first = 1 if fix_background else 0
    free = list(range(first, NUM_COLORS))
    colors = list(range(first))
    for remaining in range(len(free) - 1, -1, -1):  # Lehmer code: digits of the rank in factorial base
        position, rank = divmod(rank, factorial(remaining))
        colors.append(free.pop(position))
    return View(element, tuple(colors))


def view_index(view: View, fix_background: bool = True) -> int:
    """Returns the index of a view; the inverse of `view_from_index`.

    Raises:
        ValueError: `fix_background` is true and the view replaces colour 0.
    """
    if fix_background and view.colors[0] != 0:
        raise ValueError(f"a view with fixed background must keep colour 0; got {view.colors}")
    first = 1 if fix_background else 0
    free = list(range(first, NUM_COLORS))
    rank = 0
    for color in view.colors[first:]:
        position = free.index(color)
        rank += position * factorial(len(free) - 1)
        free.pop(position)
    return rank * NUM_DIHEDRAL + view.dihedral


def random_color_tables(rng: np.random.Generator, count: int, fix_background: bool = True) -> npt.NDArray[np.uint8]:
    """Draws uniform permutations of the colours.

    Args:
        rng: generator to draw from.
        count: number of permutations.
        fix_background: keep colour 0 in its place.
    Returns:
        (count, 10) uint8; row entry c replaces colour c.
    """
    first = 1 if fix_background else 0
    tables = np.tile(np.arange(NUM_COLORS, dtype=np.uint8), (count, 1))
    tables[:, first:] = rng.permuted(tables[:, first:], axis=1)
    return tables
