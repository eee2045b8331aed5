"""Colours changed: by a table inferred from demonstrations, by frequency, by name."""

import numpy as np

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.primitives.combining import exchange_colors
from jepa_hrl.dsl.primitives.planes import color_counts, colors_of
from jepa_hrl.dsl.types import NOTHING, TOO_LARGE, UNEQUAL, UNSEEN, Array, Color, Field, Grid, Mask, Refusal, Table

_UNSEEN = 255


@primitive(3)
def recolor(table: Table, grid: Grid) -> Grid:
    """`grid` with colours renamed (`table`).

    >>> text(recolor({(1,): 2}, grid("10")))
    '20'
    """
    names = np.arange(256, dtype=np.uint8)
    for (color, *_), name in table.items():
        names[color] = name
    return names[grid]


@primitive(3)
def repaint(table: Table, grid: Grid, field: Field) -> Grid | Refusal:
    """`grid` with cells renamed by their colour and their value in `field` (`table`).

    Args:
        table: from (colour, field value) to the new colour; other cells keep theirs.
        grid: (H, W) colours 0..9.
        field: (H, W) numbers 0..255.

    >>> text(repaint({(0, 1): 4}, grid("111/101/111"), enclosed(grid("111/101/111"))))
    '111/141/111'
    """
    return _recolor_by_fields(table, grid, field)


@primitive(4)
def repaint_2(table: Table, grid: Grid, one: Field, other: Field) -> Grid | Refusal:
    """`grid` with cells renamed by their colour and their values in `one` and in `other` (`table`).

    Args:
        table: from (colour, value in `one`, value in `other`) to the new colour; other cells keep theirs.
        grid: (H, W) colours 0..9.
        one, other: (H, W) numbers 0..255.

    >>> text(repaint_2({(1, 2, 3): 4}, grid("1"), grid("2"), grid("3")))
    '4'
    """
    return _recolor_by_fields(table, grid, one, other)


def _recolor_by_fields(table: Table, grid: Array, *fields: Array) -> Array | Refusal:
    """Recolours each cell by the table's entry for its colour and its field values, if the table has one."""
    if any(field.shape != grid.shape for field in fields):
        return UNEQUAL
    out = grid.copy()
    for (color, *numbers), name in table.items():
        here = grid == color
        for field, number in zip(fields, numbers, strict=False):
            here &= field == number
        out[here] = name
    return out


@primitive(4)
def paint(table: Table, field: Field) -> Grid | Refusal:
    """A colour in place of each number of `field` (`table`).

    >>> text(paint({(0,): 0, (1,): 4}, enclosed(grid("111/101/111"))))
    '000/040/000'
    """
    names = np.full(256, _UNSEEN, dtype=np.uint8)
    for (number, *_), color in table.items():
        names[number] = color
    out = names[field]
    return UNSEEN if out.max() == _UNSEEN else out


@primitive(2)
def as_colors(field: Field) -> Grid | Refusal:
    """The numbers of `field` as colours.

    >>> text(as_colors(mark_rank(size, components(grid("110/002")))))
    '110/002'
    """
    return field if field.max() <= 9 else TOO_LARGE


@primitive(3)
def keep_color(grid: Grid, color: Color) -> Grid | Refusal:
    """The cells of colour `color` of `grid`, all else black.

    >>> text(keep_color(grid("123"), 2))
    '020'
    """
    kept = grid * (grid == color)
    return kept if kept.any() else NOTHING


@primitive(4)
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
    return exchange_colors(grid, 0, color)


@primitive(5)
def exchange_two(grid: Grid) -> Grid | Refusal:
    """`grid` with its two colours other than black exchanged.

    >>> text(exchange_two(grid("1021")))
    '2012'
    """
    colors = colors_of(grid)
    return exchange_colors(grid, *colors.tolist()) if len(colors) == 2 else NOTHING


@primitive(5)
def negative(grid: Grid) -> Grid | Refusal:
    """`grid` of black and one colour, with the two exchanged.

    >>> text(negative(grid("101")))
    '010'
    """
    colors = colors_of(grid)
    return colors[0].astype(np.uint8) * (grid == 0) if len(colors) == 1 else NOTHING


@primitive(4)
def keep_most_frequent(grid: Grid) -> Grid | Refusal:
    """The cells of the most frequent colour of `grid` other than black, all else black.

    >>> text(keep_most_frequent(grid("1220")))
    '0220'
    """
    counts = color_counts(grid)
    return grid * (grid == counts.argmax()) if counts.any() else NOTHING


@primitive(5)
def keep_least_frequent(grid: Grid) -> Grid | Refusal:
    """The cells of the least frequent colour of `grid` other than black, all else black.

    >>> text(keep_least_frequent(grid("1220")))
    '1000'
    """
    counts = color_counts(grid)
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
