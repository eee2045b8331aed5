"""Two grids made into one, and boolean operations."""

import numpy as np

from arc_core.grid import most_common_color
from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.types import TOO_LARGE, UNEQUAL, Array, Grid, Mask, Refusal, fits


@primitive(4)
def overlay(top: Grid, below: Grid) -> Grid | Refusal:
    """`top` laid on `below`.

    >>> text(overlay(grid("10"), grid("22")))
    '12'
    """
    return np.where(top == 0, below, top) if top.shape == below.shape else UNEQUAL


@primitive(5)
def beside(left: Grid, right: Grid) -> Grid | Refusal:
    """`left` and, at its right, `right`.

    >>> text(beside(grid("1"), grid("2")))
    '12'
    """
    if left.shape[0] != right.shape[0]:
        return UNEQUAL
    return np.concatenate([left, right], axis=1) if fits(1, left.shape[1] + right.shape[1]) else TOO_LARGE


@primitive(5)
def above(top: Grid, below: Grid) -> Grid | Refusal:
    """`top` and, below it, `below`.

    >>> text(above(grid("1"), grid("2")))
    '1/2'
    """
    if top.shape[1] != below.shape[1]:
        return UNEQUAL
    return np.concatenate([top, below]) if fits(top.shape[0] + below.shape[0], 1) else TOO_LARGE


@primitive(5)
def both(one: Grid, other: Grid) -> Grid | Refusal:
    """`one` where `other` is coloured too, black elsewhere.

    >>> text(both(grid("110"), grid("022")))
    '010'
    """
    return one * (other != 0) if one.shape == other.shape else UNEQUAL


@primitive(5)
def only(one: Grid, other: Grid) -> Grid | Refusal:
    """`one` where `other` is black, black elsewhere.

    >>> text(only(grid("110"), grid("022")))
    '100'
    """
    return one * (other == 0) if one.shape == other.shape else UNEQUAL


@primitive(6)
def either(one: Grid, other: Grid) -> Grid | Refusal:
    """`one` and `other` where just one of them is coloured.

    >>> text(either(grid("110"), grid("022")))
    '102'
    """
    if one.shape != other.shape:
        return UNEQUAL
    return np.where((one != 0) & (other != 0), 0, one + other * (one == 0))


@primitive(6)
def neither(one: Grid, other: Grid) -> Mask | Refusal:
    """The cells that are black in both `one` and `other`.

    >>> neither(grid("110"), grid("020")).tolist()
    [[0, 0, 1]]
    """
    return ((one == 0) & (other == 0)).astype(np.uint8) if one.shape == other.shape else UNEQUAL


@primitive(5)
def masked(grid: Grid, mask: Mask) -> Grid | Refusal:
    """`grid` within `mask`, black elsewhere.

    >>> text(masked(grid("123"), np.array([[1, 0, 1]], dtype=np.uint8)))
    '103'
    """
    return grid * mask if grid.shape == mask.shape else UNEQUAL


@primitive(5)
def coloured(grid: Grid) -> Mask:
    """The coloured cells of `grid`.

    >>> coloured(grid("102")).tolist()
    [[1, 0, 1]]
    """
    return (grid != 0).astype(np.uint8)


@primitive(5)
def black(grid: Grid) -> Mask:
    """The black cells of `grid`.

    >>> black(grid("102")).tolist()
    [[0, 1, 0]]
    """
    return (grid == 0).astype(np.uint8)


def exchange_colors(grid: Array, one: int, other: int) -> Array:
    """Returns the grid with two colours exchanged.

    Args:
        grid: (H, W) colours 0..9.
        one, other: the colours, 0..9.
    """
    names = np.arange(10, dtype=np.uint8)
    names[one], names[other] = other, one
    return names[grid]


@primitive(2)
def on_black(grid: Grid) -> Grid:
    """`grid` with its most frequent colour and black exchanged.

    >>> text(on_black(grid("2212")))
    '0010'
    """
    return exchange_colors(grid, 0, most_common_color(grid))


@primitive(1)
def on_ground_of(grid: Grid, like: Grid) -> Grid:
    """`grid` with black and the most frequent colour of `like` exchanged.

    >>> text(on_ground_of(grid("0010"), grid("2212")))
    '2212'
    """
    return exchange_colors(grid, 0, most_common_color(like))
