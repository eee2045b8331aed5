"""Colours changed: by a table inferred from demonstrations, by frequency, by name."""

import numpy as np

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.types import NOTHING, UNEQUAL, UNSEEN, Array, Color, Field, Grid, Mask, Refusal, Table


def _looked_up(table: Table, *fields: Array) -> Array | Refusal:
    """A cell's colour is the table's entry for its values in all fields."""
    if len({field.shape for field in fields}) > 1:
        return UNEQUAL
    codes = fields[0].astype(np.int32)
    for field in fields[1:]:
        codes = codes * 256 + field
    seen, places = np.unique(codes, return_inverse=True)
    names = np.zeros(len(seen), dtype=np.uint8)
    for index, code in enumerate(seen.tolist()):
        values = tuple(code >> 8 * place & 255 for place in reversed(range(len(fields))))
        if values not in table:
            return UNSEEN
        names[index] = table[values]
    return names[places.reshape(fields[0].shape)]


@primitive(3)
def recolor(table: Table, grid: Grid) -> Grid | Refusal:
    """`grid` with its colours renamed: `table`.

    >>> text(recolor({(1,): 2, (0,): 0}, grid("10")))
    '20'
    """
    return _looked_up(table, grid)


@primitive(4)
def paint(table: Table, field: Field) -> Grid | Refusal:
    """A colour in place of each number of `field`: `table`.

    >>> text(paint({(0,): 0, (1,): 4}, enclosed(grid("111/101/111"))))
    '000/040/000'
    """
    return _looked_up(table, field)


@primitive(4)
def paint_2(table: Table, one: Field, other: Field) -> Grid | Refusal:
    """A colour for each pair of values in `one` and `other`: `table`.

    >>> text(paint_2({(1, 0): 1, (0, 0): 0, (0, 1): 4}, grid("111/101/111"), enclosed(grid("111/101/111"))))
    '111/141/111'
    """
    return _looked_up(table, one, other)


@primitive(5)
def paint_3(table: Table, one: Field, other: Field, third: Field) -> Grid | Refusal:
    """A colour for each three values in `one`, `other` and `third`: `table`.

    >>> text(paint_3({(1, 2, 3): 4}, grid("1"), grid("2"), grid("3")))
    '4'
    """
    return _looked_up(table, one, other, third)


@primitive(5)
def keep_color(grid: Grid, color: Color) -> Grid | Refusal:
    """The cells of colour `color` of `grid`, all else black.

    >>> text(keep_color(grid("123"), 2))
    '020'
    """
    kept = grid * (grid == color)
    return kept if kept.any() else NOTHING


@primitive(5)
def drop_color(grid: Grid, color: Color) -> Grid | Refusal:
    """`grid` with colour `color` made black.

    >>> text(drop_color(grid("123"), 2))
    '103'
    """
    return grid * (grid != color) if (grid == color).any() else NOTHING


@primitive(6)
def exchange_with_black(grid: Grid, color: Color) -> Grid | Refusal:
    """`grid` with colour `color` and black exchanged.

    >>> text(exchange_with_black(grid("102"), 2))
    '120'
    """
    if not (grid == color).any():
        return NOTHING
    names = np.arange(10, dtype=np.uint8)
    names[0], names[color] = color, 0
    return names[grid]


@primitive(5)
def exchange_two(grid: Grid) -> Grid | Refusal:
    """`grid` with its two colours other than black exchanged.

    >>> text(exchange_two(grid("1021")))
    '2012'
    """
    colors = np.flatnonzero(np.bincount(grid.ravel(), minlength=10)[1:]) + 1
    if len(colors) != 2:
        return NOTHING
    names = np.arange(10, dtype=np.uint8)
    names[colors] = colors[::-1]
    return names[grid]


@primitive(5)
def negative(grid: Grid) -> Grid | Refusal:
    """`grid` of black and one colour, with the two exchanged.

    >>> text(negative(grid("101")))
    '010'
    """
    colors = np.flatnonzero(np.bincount(grid.ravel(), minlength=10)[1:]) + 1
    return colors[0].astype(np.uint8) * (grid == 0) if len(colors) == 1 else NOTHING


@primitive(5)
def keep_most_frequent(grid: Grid) -> Grid | Refusal:
    """The cells of the most frequent colour of `grid` other than black, all else black.

    >>> text(keep_most_frequent(grid("1220")))
    '0220'
    """
    counts = np.bincount(grid.ravel(), minlength=10)
    counts[0] = 0
    return grid * (grid == counts.argmax()) if counts.any() else NOTHING


@primitive(5)
def keep_least_frequent(grid: Grid) -> Grid | Refusal:
    """The cells of the least frequent colour of `grid` other than black, all else black.

    >>> text(keep_least_frequent(grid("1220")))
    '1000'
    """
    counts = np.bincount(grid.ravel(), minlength=10)
    counts[0] = 0
    present = np.flatnonzero(counts)
    return grid * (grid == present[counts[present].argmin()]) if len(present) > 1 else NOTHING


@primitive(5)
def frequency_rank(grid: Grid) -> Field:
    """Each coloured cell of `grid` with its colour's rank by frequency, 1 the most frequent.

    >>> frequency_rank(grid("0221")).tolist()
    [[0, 1, 1, 2]]
    """
    counts = np.bincount(grid.ravel(), minlength=10)
    counts[0] = len(grid) * 31
    ranks = np.zeros(10, dtype=np.uint8)
    ranks[np.argsort(-counts, kind="stable")] = np.arange(10, dtype=np.uint8)
    return ranks[grid]


@primitive(6)
def fill_with(mask: Mask, color: Color) -> Grid:
    """The cells of `mask` in colour `color`, all else black.

    >>> text(fill_with(np.array([[1, 0]], dtype=np.uint8), 3))
    '30'
    """
    return mask * np.uint8(color)


@primitive(6)
def filled(grid: Grid, color: Color) -> Grid:
    """A grid as large as `grid`, all of colour `color`.

    >>> text(filled(grid("12"), 3))
    '33'
    """
    return np.full(grid.shape, color, dtype=np.uint8)


@primitive(5)
def fill_black(grid: Grid, color: Color) -> Grid:
    """`grid` with its black cells in colour `color`.

    >>> text(fill_black(grid("102"), 3))
    '132'
    """
    return np.where(grid == 0, np.uint8(color), grid)
