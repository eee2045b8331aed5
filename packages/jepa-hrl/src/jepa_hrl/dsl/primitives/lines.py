"""Lines and rays: from coloured cells to the border, to the next cell, between equal cells."""

import numpy as np

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.types import Array, Grid


def forward_fill(grid: Array) -> Array:
    """(H, W) each cell takes the last colour at it or left of it, 0 if there is none."""
    sources = np.maximum.accumulate(np.arange(grid.shape[1]) * (grid != 0), axis=1)
    return grid[np.arange(len(grid))[:, None], sources]


def first_colors(grid: Array) -> Array:
    """(H, 1) the first colour of each row other than black, 0 if there is none."""
    return grid[np.arange(len(grid)), (grid != 0).argmax(axis=1)][:, None]


@primitive(3.5)
def rays_right(grid: Grid) -> Grid:
    """`grid` with a ray from each cell to the right, as far as the next.

    >>> text(rays_right(grid("0102/0000")))
    '0112/0000'
    """
    return forward_fill(grid)


@primitive(3.5)
def rays_left(grid: Grid) -> Grid:
    """`grid` with a ray from each cell to the left, as far as the next.

    >>> text(rays_left(grid("0102")))
    '1122'
    """
    return forward_fill(grid[:, ::-1])[:, ::-1]


@primitive(3.5)
def rays_down(grid: Grid) -> Grid:
    """`grid` with a ray from each cell down, as far as the next.

    >>> text(rays_down(grid("01/00/20")))
    '01/01/21'
    """
    return forward_fill(grid.T).T


@primitive(3.5)
def rays_up(grid: Grid) -> Grid:
    """`grid` with a ray from each cell up, as far as the next.

    >>> text(rays_up(grid("01/00/20")))
    '21/20/20'
    """
    return forward_fill(grid.T[:, ::-1])[:, ::-1].T


@primitive(4)
def rows_filled(grid: Grid) -> Grid:
    """`grid` with each row's first colour along the whole row where it is black.

    >>> text(rows_filled(grid("010/000")))
    '111/000'
    """
    return np.where(grid == 0, first_colors(grid), grid)


@primitive(4)
def columns_filled(grid: Grid) -> Grid:
    """`grid` with each column's first colour along the whole column where it is black.

    >>> text(columns_filled(grid("010/000")))
    '010/010'
    """
    return rows_filled(grid.T).T


@primitive(5)
def cross_filled(grid: Grid) -> Grid:
    """`grid` with lines along the rows and columns of its cells, rows on top.

    >>> text(cross_filled(grid("00/10")))
    '10/11'
    """
    rows = rows_filled(grid)
    return np.where(rows == 0, columns_filled(grid), rows)


@primitive(4)
def join_across(grid: Grid) -> Grid:
    """`grid` with equal cells of a row joined where only black lies between.

    >>> text(join_across(grid("1001/1002")))
    '1111/1002'
    """
    ahead, behind = forward_fill(grid), forward_fill(grid[:, ::-1])[:, ::-1]
    return np.where((grid == 0) & (ahead == behind), ahead, grid)


@primitive(4)
def join_down(grid: Grid) -> Grid:
    """`grid` with equal cells of a column joined where only black lies between.

    >>> text(join_down(grid("1/0/1")))
    '1/1/1'
    """
    return join_across(grid.T).T


@primitive(4)
def join_both(grid: Grid) -> Grid:
    """`grid` with equal cells of a row or a column joined where only black lies between, columns on top.

    >>> text(join_both(grid("101/000/100")))
    '111/100/100'
    """
    down = join_down(grid)
    return np.where(down == grid, join_across(grid), down)


def _shear(grid: Array, step: int) -> Array:
    """(H, W + H - 1) shifts each row by `step` more than the one above, so that diagonals become columns."""
    tall, wide = grid.shape
    out = np.zeros((tall, wide + tall - 1), dtype=np.uint8)
    rows = np.arange(tall)
    start = rows if step > 0 else tall - 1 - rows
    out[rows[:, None], start[:, None] + np.arange(wide)] = grid
    return out


def _unshear(slanted: Array, wide: int, step: int) -> Array:
    """Undoes `_shear`: (H, wide)."""
    rows = np.arange(len(slanted))
    start = rows if step > 0 else len(slanted) - 1 - rows
    return slanted[rows[:, None], start[:, None] + np.arange(wide)]


def _diagonal_rays(grid: Array, step: int) -> Array:
    """Draws rays from the cells downwards along a diagonal: to the left for `step` 1, to the right for -1."""
    return _unshear(forward_fill(_shear(grid, step).T).T, grid.shape[1], step)


@primitive(5)
def rays_down_right(grid: Grid) -> Grid:
    """`grid` with a ray from each cell down and right.

    >>> text(rays_down_right(grid("100/000/000")))
    '100/010/001'
    """
    return _diagonal_rays(grid, -1)


@primitive(5)
def rays_down_left(grid: Grid) -> Grid:
    """`grid` with a ray from each cell down and left.

    >>> text(rays_down_left(grid("001/000/000")))
    '001/010/100'
    """
    return _diagonal_rays(grid, 1)


@primitive(5)
def rays_up_right(grid: Grid) -> Grid:
    """`grid` with a ray from each cell up and right.

    >>> text(rays_up_right(grid("000/000/100")))
    '001/010/100'
    """
    return _diagonal_rays(grid[::-1], -1)[::-1]


@primitive(5)
def rays_up_left(grid: Grid) -> Grid:
    """`grid` with a ray from each cell up and left.

    >>> text(rays_up_left(grid("000/000/001")))
    '100/010/001'
    """
    return _diagonal_rays(grid[::-1], 1)[::-1]


@primitive(5)
def rays_diagonal(grid: Grid) -> Grid:
    """`grid` with rays from each cell along both diagonals.

    >>> text(rays_diagonal(grid("000/010/000")))
    '101/010/101'
    """
    out = grid
    for rays in (rays_down_right, rays_down_left, rays_up_right, rays_up_left):
        out = np.where(out == 0, rays(grid), out)
    return out


@primitive(5)
def rays_all(grid: Grid) -> Grid:
    """`grid` with rays from each cell up, down, left and right.

    >>> text(rays_all(grid("000/010/000")))
    '010/111/010'
    """
    out = grid
    for rays in (rays_down, rays_up, rays_right, rays_left):
        out = np.where(out == 0, rays(grid), out)
    return out


@primitive(5)
def join_diagonal(grid: Grid) -> Grid:
    """`grid` with equal cells of a diagonal joined where only black lies between.

    >>> text(join_diagonal(grid("100/000/001")))
    '100/010/001'
    """
    out = grid
    for step in (1, -1):
        joined = _unshear(join_down(_shear(grid, step)), grid.shape[1], step)
        out = np.where(out == 0, joined, out)
    return out
