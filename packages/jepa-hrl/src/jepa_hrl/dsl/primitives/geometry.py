"""Turns, mirrors and shifts of a whole grid."""

import numpy as np

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.types import Grid


@primitive(3)
def flip_horizontal(grid: Grid) -> Grid:
    """`grid` mirrored left to right.

    >>> text(flip_horizontal(grid("12/34")))
    '21/43'
    """
    return grid[:, ::-1]


@primitive(3)
def flip_vertical(grid: Grid) -> Grid:
    """`grid` mirrored top to bottom.

    >>> text(flip_vertical(grid("12/34")))
    '34/12'
    """
    return grid[::-1]


@primitive(3)
def rotate_90(grid: Grid) -> Grid:
    """`grid` turned a quarter clockwise.

    >>> text(rotate_90(grid("12/34")))
    '31/42'
    """
    return grid.T[:, ::-1]


@primitive(3)
def rotate_180(grid: Grid) -> Grid:
    """`grid` turned by half.

    >>> text(rotate_180(grid("12/34")))
    '43/21'
    """
    return grid[::-1, ::-1]


@primitive(3)
def rotate_270(grid: Grid) -> Grid:
    """`grid` turned a quarter counter-clockwise.

    >>> text(rotate_270(grid("12/34")))
    '24/13'
    """
    return grid.T[::-1]


@primitive(3)
def transpose(grid: Grid) -> Grid:
    """`grid` mirrored on its main diagonal.

    >>> text(transpose(grid("12/34")))
    '13/24'
    """
    return grid.T


@primitive(4)
def anti_transpose(grid: Grid) -> Grid:
    """`grid` mirrored on its other diagonal.

    >>> text(anti_transpose(grid("12/34")))
    '42/31'
    """
    return grid[::-1, ::-1].T


@primitive()
def shift_up(grid: Grid) -> Grid:
    """`grid` moved up by a row, black coming in.

    >>> text(shift_up(grid("12/34")))
    '34/00'
    """
    moved = np.zeros_like(grid)
    moved[:-1] = grid[1:]
    return moved


@primitive()
def shift_down(grid: Grid) -> Grid:
    """`grid` moved down by a row, black coming in.

    >>> text(shift_down(grid("12/34")))
    '00/12'
    """
    moved = np.zeros_like(grid)
    moved[1:] = grid[:-1]
    return moved


@primitive()
def shift_left(grid: Grid) -> Grid:
    """`grid` moved left by a column, black coming in.

    >>> text(shift_left(grid("12/34")))
    '20/40'
    """
    moved = np.zeros_like(grid)
    moved[:, :-1] = grid[:, 1:]
    return moved


@primitive()
def shift_right(grid: Grid) -> Grid:
    """`grid` moved right by a column, black coming in.

    >>> text(shift_right(grid("12/34")))
    '01/03'
    """
    moved = np.zeros_like(grid)
    moved[:, 1:] = grid[:, :-1]
    return moved


@primitive(6)
def roll_up(grid: Grid) -> Grid:
    """`grid` moved up by a row, the first row coming in below.

    >>> text(roll_up(grid("12/34/56")))
    '34/56/12'
    """
    return np.concatenate([grid[1:], grid[:1]])


@primitive(6)
def roll_down(grid: Grid) -> Grid:
    """`grid` moved down by a row, the last row coming in above.

    >>> text(roll_down(grid("12/34/56")))
    '56/12/34'
    """
    return np.concatenate([grid[-1:], grid[:-1]])


@primitive(6)
def roll_left(grid: Grid) -> Grid:
    """`grid` moved left by a column, the first column coming in at the right.

    >>> text(roll_left(grid("123")))
    '231'
    """
    return np.concatenate([grid[:, 1:], grid[:, :1]], axis=1)


@primitive(6)
def roll_right(grid: Grid) -> Grid:
    """`grid` moved right by a column, the last column coming in at the left.

    >>> text(roll_right(grid("123")))
    '312'
    """
    return np.concatenate([grid[:, -1:], grid[:, :-1]], axis=1)
