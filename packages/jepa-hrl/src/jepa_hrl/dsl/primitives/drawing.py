"""Objects made into grids again: cropped, drawn in their places, stacked, summed up."""

import numpy as np

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.primitives.planes import color_counts, main_color
from jepa_hrl.dsl.primitives.selection import mark_cells, window
from jepa_hrl.dsl.types import TOO_LARGE, UNEQUAL, Array, Field, Function, Grid, Mask, Object, Objects, Refusal, fits


@primitive(1)
def crop(object_: Object) -> Grid:
    """`object_`, cropped.

    >>> text(crop(first(components(grid("000/120")))))
    '1'
    """
    return object_.cells


@primitive(2)
def cut_out(object_: Object) -> Grid:
    """All that the grid shows in the box of `object_`.

    >>> text(cut_out(first(components(grid("110/120")))))
    '11/12'
    """
    return window(object_.source, object_)


@primitive(3)
def alone(object_: Object) -> Grid:
    """`object_` alone in its place.

    >>> text(alone(first(components(grid("000/120")))))
    '000/100'
    """
    canvas = np.zeros_like(object_.source)
    window(canvas, object_)[:] = object_.cells
    return canvas


@primitive(5)
def without(object_: Object) -> Grid:
    """The grid without `object_`.

    >>> text(without(first(components(grid("000/120")))))
    '000/020'
    """
    canvas = object_.source.copy()
    window(canvas, object_)[object_.mask] = 0
    return canvas


@primitive(3)
def draw(objects: Objects) -> Grid:
    """`objects` in their places, all else black.

    >>> text(draw(components(grid("110/002"))))
    '110/002'
    """
    canvas = np.zeros(objects.source.shape, dtype=np.uint8)
    for item in objects.items:
        np.copyto(window(canvas, item), item.cells, where=item.mask)
    return canvas


@primitive(4)
def mask_of(objects: Objects) -> Mask:
    """The cells of `objects`.

    >>> mask_of(holes(grid("111/101/111"))).tolist()
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    """
    return mark_cells(objects, [1] * len(objects.items))


@primitive(4)
def boxes(objects: Objects) -> Field:
    """The bounding boxes of `objects`, each cell with how many boxes hold it.

    >>> boxes(components(grid("110/102"))).tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    counts = np.zeros(objects.source.shape, dtype=np.uint8)
    for item in objects.items:
        window(counts, item)[:] += 1
    return counts


@primitive(4)
def box_edges(objects: Objects) -> Mask:
    """The rings just outside the bounding boxes of `objects`.

    >>> box_edges(components(grid("000/010/000"))).tolist()
    [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    grown, kept = np.zeros(objects.source.shape, dtype=np.uint8), boxes(objects)
    for item in objects.items:
        (tall, wide), up, across = item.mask.shape, max(item.top - 1, 0), max(item.left - 1, 0)
        grown[up : item.top + tall + 1, across : item.left + wide + 1] = 1
    grown[kept > 0] = 0
    return grown


@primitive(4)
def color_by_box(objects: Objects) -> Grid:
    """The bounding boxes of `objects`, filled with each one's main colour.

    >>> text(color_by_box(components(grid("110/100"))))
    '110/110'
    """
    canvas = np.zeros(objects.source.shape, dtype=np.uint8)
    for item in objects.items:
        window(canvas, item)[:] = main_color(item)
    return canvas


@primitive(4)
def each(function: Function, objects: Objects) -> Objects | Refusal:
    """`objects`, each replaced by `function`.

    >>> text(draw(each(flip_horizontal, blobs(grid("120/000/003")))))
    '210/000/003'
    """
    changed = []
    for item in objects.items:
        cells = function(item.cells)
        if isinstance(cells, Refusal):
            return cells
        if cells.shape != item.cells.shape:
            return UNEQUAL
        changed.append(Object(cells, cells != 0, item.top, item.left, item.source))
    return Objects(tuple(changed))


@primitive(5)
def stack_across(objects: Objects) -> Grid | Refusal:
    """`objects` side by side.

    >>> text(stack_across(components(grid("101/202"))))
    '1122'
    """
    return _stack([item.cells for item in objects.items], 1)


@primitive(5)
def stack_down(objects: Objects) -> Grid | Refusal:
    """`objects` one below the other.

    >>> text(stack_down(components(grid("10/02"))))
    '1/2'
    """
    return _stack([item.cells for item in objects.items], 0)


def _stack(grids: list[Array], axis: int) -> Array | Refusal:
    """Concatenates grids along an axis; refuses unless they agree on the other axis."""
    if len({cells.shape[1 - axis] for cells in grids}) > 1:
        return UNEQUAL
    total, across = sum(cells.shape[axis] for cells in grids), grids[0].shape[1 - axis]
    return np.concatenate(grids, axis=axis) if fits(total, across) else TOO_LARGE


@primitive(5)
def pile(objects: Objects) -> Grid | Refusal:
    """`objects` cropped and laid on each other, earlier ones on top.

    >>> text(pile(pieces(grid("105/555/025"))))
    '12'
    """
    shapes = {item.cells.shape for item in objects.items}
    if len(shapes) > 1 or len(objects.items) < 2:
        return UNEQUAL
    canvas = np.zeros(shapes.pop(), dtype=np.uint8)
    for item in reversed(objects.items):
        np.copyto(canvas, item.cells, where=item.cells != 0)
    return canvas


@primitive(5)
def summary(objects: Objects) -> Grid | Refusal:
    """One cell in its main colour for each of `objects`, which lie in rows and columns.

    >>> text(summary(components(grid("1102/0000/3004"))))
    '12/34'
    """
    tops, lefts = sorted({item.top for item in objects.items}), sorted({item.left for item in objects.items})
    if len(tops) * len(lefts) != len(objects.items) or len(objects.items) < 2:
        return UNEQUAL
    canvas = np.zeros((len(tops), len(lefts)), dtype=np.uint8)
    for item in objects.items:
        canvas[tops.index(item.top), lefts.index(item.left)] = color_counts(item.cells).argmax()
    return canvas
