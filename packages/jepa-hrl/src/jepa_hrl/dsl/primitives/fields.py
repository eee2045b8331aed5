"""Numbers for each cell: where it lies, what is around it, what stands in its row and column."""

import numpy as np

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.primitives.lines import first_colors, forward_fill
from jepa_hrl.dsl.primitives.planes import add_border
from jepa_hrl.dsl.types import Array, Field, Grid, Mask


@primitive(5)
def row_parity(grid: Grid) -> Mask:
    """Odd rows of `grid`, counted from 0.

    >>> row_parity(grid("1/1/1")).tolist()
    [[0], [1], [0]]
    """
    return np.broadcast_to((np.arange(grid.shape[0], dtype=np.uint8) % 2)[:, None], grid.shape)


@primitive(5)
def column_parity(grid: Grid) -> Mask:
    """Odd columns of `grid`, counted from 0.

    >>> column_parity(grid("111")).tolist()
    [[0, 1, 0]]
    """
    return np.broadcast_to(np.arange(grid.shape[1], dtype=np.uint8) % 2, grid.shape)


@primitive(5)
def checkerboard(grid: Grid) -> Mask:
    """The cells of `grid` that are dark on a checkerboard.

    >>> checkerboard(grid("11/11")).tolist()
    [[0, 1], [1, 0]]
    """
    return row_parity(grid) ^ column_parity(grid)


@primitive(6)
def column_thirds(grid: Grid) -> Field:
    """The column of each cell of `grid`, counted 0, 1, 2, 0, 1, 2.

    >>> column_thirds(grid("1111")).tolist()
    [[0, 1, 2, 0]]
    """
    return np.broadcast_to(np.arange(grid.shape[1], dtype=np.uint8) % 3, grid.shape)


@primitive(6)
def row_thirds(grid: Grid) -> Field:
    """The row of each cell of `grid`, counted 0, 1, 2, 0, 1, 2.

    >>> row_thirds(grid("1/1/1/1")).tolist()
    [[0], [1], [2], [0]]
    """
    return np.broadcast_to((np.arange(grid.shape[0], dtype=np.uint8) % 3)[:, None], grid.shape)


@primitive(5)
def ring(grid: Grid) -> Field:
    """The distance of each cell of `grid` from the border.

    >>> ring(grid("111/111/111")).tolist()
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    """
    rows, columns = (np.minimum(np.arange(side), np.arange(side)[::-1]) for side in grid.shape)
    return np.minimum.outer(rows, columns).astype(np.uint8)


@primitive(6)
def row_number(grid: Grid) -> Field:
    """The row of each cell of `grid`.

    >>> row_number(grid("1/1")).tolist()
    [[0], [1]]
    """
    return np.broadcast_to(np.arange(grid.shape[0], dtype=np.uint8)[:, None], grid.shape)


@primitive(6)
def column_number(grid: Grid) -> Field:
    """The column of each cell of `grid`.

    >>> column_number(grid("11")).tolist()
    [[0, 1]]
    """
    return np.broadcast_to(np.arange(grid.shape[1], dtype=np.uint8), grid.shape)


@primitive(5)
def diagonals(grid: Grid) -> Field:
    """The cells of `grid` on the main diagonal 1, on the other 2, on both 3, elsewhere 0.

    >>> diagonals(grid("111/111/111")).tolist()
    [[1, 0, 2], [0, 3, 0], [2, 0, 1]]
    """
    rows, columns = np.arange(grid.shape[0])[:, None], np.arange(grid.shape[1])
    return ((rows == columns) + 2 * (rows + columns == grid.shape[1] - 1)).astype(np.uint8)


def _count_neighbors(grid: Array, corners: bool) -> Array:
    """(H, W) counts the coloured neighbours of each cell: the four at its sides, with `corners` all eight."""
    padded = add_border(grid != 0, 0)
    if not corners:
        return padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    across = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return across[:-2] + across[1:-1] + across[2:] - padded[1:-1, 1:-1]


@primitive(5)
def neighbors_sides(grid: Grid) -> Field:
    """The number of coloured cells at the sides of each cell of `grid`.

    >>> neighbors_sides(grid("101")).tolist()
    [[0, 2, 0]]
    """
    return _count_neighbors(grid, False)


@primitive(5)
def neighbors_all(grid: Grid) -> Field:
    """The number of coloured cells around each cell of `grid`.

    >>> neighbors_all(grid("101/000")).tolist()
    [[0, 2, 0], [1, 2, 1]]
    """
    return _count_neighbors(grid, True)


@primitive(5)
def row_count(grid: Grid) -> Field:
    """The number of coloured cells in each cell's row of `grid`.

    >>> row_count(grid("101/000")).tolist()
    [[2, 2, 2], [0, 0, 0]]
    """
    return np.broadcast_to(np.count_nonzero(grid, axis=1).astype(np.uint8)[:, None], grid.shape)


@primitive(5)
def column_count(grid: Grid) -> Field:
    """The number of coloured cells in each cell's column of `grid`.

    >>> column_count(grid("10/10")).tolist()
    [[2, 0], [2, 0]]
    """
    return np.broadcast_to(np.count_nonzero(grid, axis=0).astype(np.uint8), grid.shape)


@primitive(5)
def row_uniform(grid: Grid) -> Mask:
    """The rows of `grid` that have a single colour.

    >>> row_uniform(grid("11/12")).tolist()
    [[1, 1], [0, 0]]
    """
    return np.broadcast_to((grid == grid[:, :1]).all(axis=1).astype(np.uint8)[:, None], grid.shape)


@primitive(5)
def column_uniform(grid: Grid) -> Mask:
    """The columns of `grid` that have a single colour.

    >>> column_uniform(grid("11/12")).tolist()
    [[1, 0], [1, 0]]
    """
    return np.broadcast_to((grid == grid[:1]).all(axis=0).astype(np.uint8), grid.shape)


@primitive(5)
def row_first(grid: Grid) -> Grid:
    """The first colour of each row of `grid`, along the row.

    >>> text(row_first(grid("012/000")))
    '111/000'
    """
    return np.broadcast_to(first_colors(grid), grid.shape)


@primitive(5)
def column_first(grid: Grid) -> Grid:
    """The first colour of each column of `grid`, along the column.

    >>> text(column_first(grid("01/20")))
    '21/21'
    """
    return row_first(grid.T).T


@primitive(5)
def seen_left(grid: Grid) -> Grid:
    """The nearest colour left of each cell of `grid`.

    >>> text(seen_left(grid("0120")))
    '0012'
    """
    out = np.zeros_like(grid)
    out[:, 1:] = forward_fill(grid)[:, :-1]
    return out


@primitive(5)
def seen_right(grid: Grid) -> Grid:
    """The nearest colour right of each cell of `grid`.

    >>> text(seen_right(grid("0120")))
    '1200'
    """
    return seen_left(grid[:, ::-1])[:, ::-1]


@primitive(5)
def seen_up(grid: Grid) -> Grid:
    """The nearest colour above each cell of `grid`.

    >>> text(seen_up(grid("1/0/0")))
    '0/1/1'
    """
    return seen_left(grid.T).T


@primitive(5)
def seen_down(grid: Grid) -> Grid:
    """The nearest colour below each cell of `grid`.

    >>> text(seen_down(grid("0/0/1")))
    '1/1/0'
    """
    return seen_left(grid.T[:, ::-1])[:, ::-1].T


@primitive(5)
def odd_one_out(grid: Grid) -> Mask:
    """The cells of the least frequent colour of `grid`.

    >>> odd_one_out(grid("1121")).tolist()
    [[0, 0, 1, 0]]
    """
    counts = np.bincount(grid.ravel(), minlength=10)
    counts[counts == 0] = 1000
    return (grid == counts.argmin()).astype(np.uint8)


@primitive(6)
def distance(grid: Grid) -> Field:
    """The steps along rows and columns from each cell of `grid` to the nearest coloured one, at most 60.

    >>> distance(grid("0010/0000")).tolist()
    [[2, 1, 0, 1], [3, 2, 1, 2]]
    """
    steps = np.where(grid != 0, 0, 60).astype(np.int16)
    for axis in range(2):
        line = np.arange(grid.shape[axis], dtype=np.int16)
        line = line[:, None] if axis == 0 else line
        ahead = np.minimum.accumulate(steps - line, axis=axis) + line
        behind = np.flip(np.minimum.accumulate(np.flip(steps + line, axis), axis=axis), axis) - line
        steps = np.minimum(ahead, behind)
    return steps.astype(np.uint8)
