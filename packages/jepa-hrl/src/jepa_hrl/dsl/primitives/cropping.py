"""Parts of a grid: halves, trimmed boxes, grids without repetition."""

import numpy as np

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.types import NOTHING, UNEQUAL, Array, Color, Grid, Refusal


def bounding_box(marked: Array) -> tuple[slice, slice] | None:
    """Returns the rows and columns that hold all nonzero cells of (H, W); None if there are no such cells."""
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


@primitive(3)
def trim(grid: Grid) -> Grid | Refusal:
    """`grid` without its black margins.

    >>> text(trim(grid("000/012/000")))
    '12'
    """
    box = bounding_box(grid)
    return NOTHING if box is None else grid[box]


@primitive(4)
def top_half(grid: Grid) -> Grid | Refusal:
    """The top half of `grid`, a middle row left out.

    >>> text(top_half(grid("12/34/56")))
    '12'
    """
    return grid[: len(grid) // 2] if len(grid) > 1 else NOTHING


@primitive(4)
def bottom_half(grid: Grid) -> Grid | Refusal:
    """The bottom half of `grid`, a middle row left out.

    >>> text(bottom_half(grid("12/34/56")))
    '56'
    """
    return grid[(len(grid) + 1) // 2 :] if len(grid) > 1 else NOTHING


@primitive(4)
def left_half(grid: Grid) -> Grid | Refusal:
    """The left half of `grid`, a middle column left out.

    >>> text(left_half(grid("123/456")))
    '1/4'
    """
    return grid[:, : grid.shape[1] // 2] if grid.shape[1] > 1 else NOTHING


@primitive(4)
def right_half(grid: Grid) -> Grid | Refusal:
    """The right half of `grid`, a middle column left out.

    >>> text(right_half(grid("123/456")))
    '3/6'
    """
    return grid[:, (grid.shape[1] + 1) // 2 :] if grid.shape[1] > 1 else NOTHING


@primitive()
def inner(grid: Grid) -> Grid | Refusal:
    """`grid` without its outermost ring.

    >>> text(inner(grid("111/121/111")))
    '2'
    """
    return grid[1:-1, 1:-1] if min(grid.shape) > 2 else NOTHING


@primitive()
def top_row(grid: Grid) -> Grid:
    """The top row of `grid`.

    >>> text(top_row(grid("12/34")))
    '12'
    """
    return grid[:1]


@primitive()
def bottom_row(grid: Grid) -> Grid:
    """The bottom row of `grid`.

    >>> text(bottom_row(grid("12/34")))
    '34'
    """
    return grid[-1:]


@primitive()
def left_column(grid: Grid) -> Grid:
    """The left column of `grid`.

    >>> text(left_column(grid("12/34")))
    '1/3'
    """
    return grid[:, :1]


@primitive()
def right_column(grid: Grid) -> Grid:
    """The right column of `grid`.

    >>> text(right_column(grid("12/34")))
    '2/4'
    """
    return grid[:, -1:]


@primitive(4)
def top_square(grid: Grid) -> Grid | Refusal:
    """The largest square at one end of `grid`: the top or the left.

    >>> text(top_square(grid("123/456")))
    '12/45'
    """
    side = min(grid.shape)
    return UNEQUAL if max(grid.shape) == side else grid[:side, :side]


@primitive(4)
def squeeze(grid: Grid) -> Grid:
    """`grid` without rows and columns that repeat the one before.

    >>> text(squeeze(grid("1122/1122/3344")))
    '12/34'
    """
    rows = np.ones(grid.shape[0], dtype=bool)
    rows[1:] = (grid[1:] != grid[:-1]).any(axis=1)
    columns = np.ones(grid.shape[1], dtype=bool)
    columns[1:] = (grid[:, 1:] != grid[:, :-1]).any(axis=0)
    return grid[rows][:, columns]


@primitive(3.5)
def compress(grid: Grid) -> Grid | Refusal:
    """`grid` without its black rows and columns.

    >>> text(compress(grid("102/000/304")))
    '12/34'
    """
    rows, columns = grid.any(axis=1), grid.any(axis=0)
    return grid[rows][:, columns] if rows.any() else NOTHING


@primitive(5)
def drop_lines(grid: Grid) -> Grid | Refusal:
    """`grid` without rows and columns of a single colour.

    >>> text(drop_lines(grid("151/555/251")))
    '11/21'
    """
    rows = (grid != grid[:, :1]).any(axis=1)
    columns = (grid != grid[:1]).any(axis=0)
    kept = grid[rows][:, columns]
    return kept if kept.size else NOTHING


@primitive(4)
def smallest_tile(grid: Grid) -> Grid | Refusal:
    """The smallest tile that, repeated, makes `grid`.

    >>> text(smallest_tile(grid("121/343")))
    '12/34'
    """
    height, width = smallest_period(grid, 0), smallest_period(grid, 1)
    return UNEQUAL if (height, width) == grid.shape else grid[:height, :width]


def smallest_period(grid: Array, axis: int) -> int:
    """Returns the smallest shift along an axis under which the grid agrees with itself; its length if there is none."""
    lines = grid if axis == 0 else grid.T
    for period in range(1, len(lines)):
        if np.array_equal(lines[period:], lines[:-period]):
            return period
    return len(lines)


@primitive(5)
def trim_to(grid: Grid, color: Color) -> Grid | Refusal:
    """The box of `grid` that holds all cells of colour `color`.

    >>> text(trim_to(grid("120/032"), 2))
    '20/32'
    """
    box = bounding_box(grid == color)
    return NOTHING if box is None else grid[box]


@primitive(5)
def inside_frame(grid: Grid, color: Color) -> Grid | Refusal:
    """What the cells of colour `color` frame in `grid`, the frame left out.

    >>> text(inside_frame(grid("2222/2132/2222"), 2))
    '13'
    """
    box = bounding_box(grid == color)
    if box is None:
        return NOTHING
    framed = grid[box][1:-1, 1:-1]
    return framed if framed.size else NOTHING
