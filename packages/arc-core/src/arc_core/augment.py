"""Views of a task: the 8 dihedral elements x colour permutations, on one numpy grid.

A dihedral element is `R^k T^s`: transpose if s, then rotate k quarter turns counter-clockwise; it is numbered
`k + 4 s`. Torch batches are turned by the same numbers in `arc_core.tensors`.
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
    """The grid turned by one of the 8 elements, as a contiguous copy."""
    turned = grid.T if element >= 4 else grid
    return np.ascontiguousarray(np.rot90(turned, element % 4))


def compose_dihedral(after: int, before: int) -> int:
    """The element that equals `before` first, then `after`. Since T R = R^-1 T, the turns subtract past a T."""
    turns = after % 4 + (-(before % 4) if after >= 4 else before % 4)
    return turns % 4 + 4 * ((after // 4 + before // 4) % 2)


def invert_dihedral(element: int) -> int:
    """The element that undoes `element`; reflections undo themselves."""
    return element if element >= 4 else -element % 4


@dataclass(frozen=True)
class View:
    """One way to look at a task: turn every grid, then rename its colours.

    Attributes:
        dihedral: 0..7, see the module.
        colors: `colors[c]` is the new name of colour c; a permutation of 0..9.
    """

    dihedral: int = 0
    colors: tuple[int, ...] = IDENTITY_COLORS

    def __post_init__(self) -> None:
        if not 0 <= self.dihedral < NUM_DIHEDRAL:
            raise ValueError(f"dihedral element must be 0..7; got {self.dihedral}")
        if sorted(self.colors) != list(IDENTITY_COLORS):
            raise ValueError(f"colours must be a permutation of 0..9; got {self.colors}")

    def apply(self, grid: Grid) -> Grid:
        """The grid seen through this view."""
        return np.array(self.colors, dtype=np.uint8)[dihedral(grid, self.dihedral)]

    def compose(self, before: "View") -> "View":
        """The view that equals `before` first, then this one."""
        return View(
            compose_dihedral(self.dihedral, before.dihedral),
            tuple(self.colors[color] for color in before.colors),
        )

    def inverse(self) -> "View":
        """The view that undoes this one."""
        colors = [0] * NUM_COLORS
        for old, new in enumerate(self.colors):
            colors[new] = old
        return View(invert_dihedral(self.dihedral), tuple(colors))

    def apply_to_task(self, task: Task) -> Task:
        """Every grid of the task seen through this view."""

        def turned(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
            return tuple(Pair(self.apply(p.input), None if p.output is None else self.apply(p.output)) for p in pairs)

        return replace(task, train=turned(task.train), test=turned(task.test))


def view_from_index(number: int, fix_background: bool = True) -> View:
    """The view of a number; number 0 is the identity.

    Args:
        number: 0 .. 2,903,040 - 1 with colour 0 fixed, else 0 .. 29,030,400 - 1.
        fix_background: keep colour 0.
    Raises:
        ValueError: the number is out of range.
    """
    total = VIEWS_WITH_FIXED_BACKGROUND if fix_background else VIEWS
    if not 0 <= number < total:
        raise ValueError(f"view number must be 0..{total - 1}; got {number}")
    rank, element = divmod(number, NUM_DIHEDRAL)
    first = 1 if fix_background else 0
    free = list(range(first, NUM_COLORS))
    colors = list(range(first))
    for left in range(len(free) - 1, -1, -1):  # Lehmer code: the rank in factorial base picks from what is left
        index, rank = divmod(rank, factorial(left))
        colors.append(free.pop(index))
    return View(element, tuple(colors))


def view_index(view: View, fix_background: bool = True) -> int:
    """The inverse of `view_from_index`.

    Raises:
        ValueError: `fix_background` is asked for and the view renames colour 0.
    """
    if fix_background and view.colors[0] != 0:
        raise ValueError(f"a view with fixed background must keep colour 0; got {view.colors}")
    first = 1 if fix_background else 0
    free = list(range(first, NUM_COLORS))
    rank = 0
    for color in view.colors[first:]:
        index = free.index(color)
        rank += index * factorial(len(free) - 1)
        free.pop(index)
    return rank * NUM_DIHEDRAL + view.dihedral


def random_color_tables(rng: np.random.Generator, count: int, fix_background: bool = True) -> npt.NDArray[np.uint8]:
    """(count, 10) uint8, each row a uniform permutation of the colours, colour 0 kept if asked."""
    first = 1 if fix_background else 0
    tables = np.tile(np.arange(NUM_COLORS, dtype=np.uint8), (count, 1))
    tables[:, first:] = rng.permuted(tables[:, first:], axis=1)
    return tables
