"""Numbers and colours read from a grid, and grids made of them."""

import numpy as np
import numpy.typing as npt

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.primitives.planes import color_counts, colors_of, main_color
from jepa_hrl.dsl.types import NOTHING, TOO_LARGE, Array, Color, Grid, Int, Measure, Objects, Refusal, fits


@primitive(4)
def most_frequent_color(grid: Grid) -> Color | Refusal:
    """The most frequent colour of `grid` other than black.

    >>> most_frequent_color(grid("0122"))
    2
    """
    counts = color_counts(grid)
    return int(counts.argmax()) if counts.any() else NOTHING


@primitive(4)
def least_frequent_color(grid: Grid) -> Color | Refusal:
    """The least frequent colour of `grid` other than black.

    >>> least_frequent_color(grid("0122"))
    1
    """
    counts = color_counts(grid)
    present = np.flatnonzero(counts)
    return int(present[counts[present].argmin()]) if len(present) else NOTHING


@primitive(5)
def first_color(grid: Grid) -> Color:
    """The colour of the top left cell of `grid`.

    >>> first_color(grid("12/34"))
    1
    """
    return int(grid[0, 0])


@primitive(4)
def count(objects: Objects) -> Int:
    """The number of `objects`.

    >>> count(components(grid("102")))
    2
    """
    return len(objects.items)


@primitive(4)
def count_colors(grid: Grid) -> Int:
    """The number of colours of `grid` other than black.

    >>> count_colors(grid("0122"))
    2
    """
    return len(colors_of(grid))


@primitive(5)
def count_cells(grid: Grid) -> Int:
    """The number of coloured cells of `grid`.

    >>> count_cells(grid("0122"))
    3
    """
    return int(np.count_nonzero(grid))


@primitive(4)
def unit(color: Color) -> Grid:
    """A single cell of colour `color`.

    >>> text(unit(3))
    '3'
    """
    return np.full((1, 1), color, dtype=np.uint8)


@primitive(4)
def bar(number: Int, color: Color) -> Grid | Refusal:
    """A row of `number` cells of colour `color`.

    >>> text(bar(3, 2))
    '222'
    """
    return np.full((1, number), color, dtype=np.uint8) if fits(1, number) else TOO_LARGE


@primitive(5)
def square(number: Int, color: Color) -> Grid | Refusal:
    """A square of side `number` in colour `color`.

    >>> text(square(2, 3))
    '33/33'
    """
    return np.full((number, number), color, dtype=np.uint8) if fits(number, number) else TOO_LARGE


@primitive(5)
def diagonal(number: Int, color: Color) -> Grid | Refusal:
    """A square of side `number`, black but for its diagonal in colour `color`.

    >>> text(diagonal(2, 3))
    '30/03'
    """
    return np.eye(number, dtype=np.uint8) * np.uint8(color) if fits(number, number) else TOO_LARGE


@primitive(5)
def tally_3(number: Int, color: Color) -> Grid | Refusal:
    """A 3 x 3 grid with its first `number` cells, row by row, in colour `color`.

    >>> text(tally_3(4, 1))
    '111/100/000'
    """
    return _tally(np.arange(9).reshape(3, 3), number, color)


@primitive(5)
def tally_5(number: Int, color: Color) -> Grid | Refusal:
    """A row of five cells with the first `number` in colour `color`.

    >>> text(tally_5(2, 1))
    '11000'
    """
    return _tally(np.arange(5)[None], number, color)


def _tally(cell_indices: npt.NDArray[np.int64], number: int, color: int) -> Array | Refusal:
    """Colours the cells whose index is below `number`."""
    fits_in = 0 <= number <= cell_indices.size
    return (cell_indices < number).astype(np.uint8) * np.uint8(color) if fits_in else TOO_LARGE


def _by_frequency(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the colours with a count above 0, most frequent first."""
    return np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]


@primitive(5)
def histogram(grid: Grid) -> Grid | Refusal:
    """The colours of `grid` other than black as columns, as tall as they have cells, most frequent first.

    >>> text(histogram(grid("0122")))
    '21/20'
    """
    counts = color_counts(grid)
    order = _by_frequency(counts)
    if not len(order):
        return NOTHING
    if not fits(int(counts.max()), len(order)):
        return TOO_LARGE
    return ((np.arange(counts.max())[:, None] < counts[order]) * order).astype(np.uint8)


@primitive(5)
def palette_column(grid: Grid) -> Grid | Refusal:
    """The colours of `grid` other than black as a column, most frequent first.

    >>> text(palette_column(grid("0122")))
    '2/1'
    """
    order = _by_frequency(color_counts(grid))
    return order.astype(np.uint8)[:, None] if len(order) else NOTHING


@primitive(5)
def color_column(objects: Objects) -> Grid | Refusal:
    """The main colours of `objects` as a column, in their order.

    >>> text(color_column(components(grid("102"))))
    '1/2'
    """
    colors = list(map(main_color, objects.items))
    return np.array(colors, dtype=np.uint8)[:, None] if len(colors) <= 30 else TOO_LARGE


@primitive(5)
def measured(measure: Measure, objects: Objects) -> Int | Refusal:
    """The `measure` of `objects`, if all have the same.

    >>> measured(size, components(grid("102")))
    1
    """
    numbers = set(measure(objects))
    return numbers.pop() if len(numbers) == 1 else NOTHING
