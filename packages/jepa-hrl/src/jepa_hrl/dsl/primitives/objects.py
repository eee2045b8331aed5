"""Objects of a grid: connected cells, colours, rectangles of ground, pieces between lines."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.primitives.cropping import bounding_box
from jepa_hrl.dsl.primitives.planes import colors_of
from jepa_hrl.dsl.types import NOTHING, Array, Grid, Object, Objects, Refusal

EIGHT = np.ones((3, 3), dtype=bool)
FOUR = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
_MAX_OBJECTS = 64  # objects of a grid; what has more is noise, and would cost more than it tells


def object_at(source: Array, box: tuple[slice, slice], mask: npt.NDArray[np.bool_]) -> Object:
    """Returns the object that a mask marks within a box.

    Args:
        source: (H, W) the grid.
        box: the rows and the columns of the bounding box.
        mask: (h, w) bool, the cells of the box that are the object's.
    """
    return Object(source[box] * mask, mask, box[0].start, box[1].start, source)


def _sort_objects(items: list[Object]) -> Objects | Refusal:
    """Puts objects in reading order of their boxes' corners; refuses none and too many."""
    if not 0 < len(items) <= _MAX_OBJECTS:
        return NOTHING
    return Objects(tuple(sorted(items, key=lambda item: (item.top, item.left))))


def find_connected(grid: Array, ground: int, eight: bool, one_color: bool, max_objects: int) -> list[Object]:
    """Finds the connected components of the cells that are not of the ground's colour.

    Args:
        grid: (H, W) colours 0..9.
        ground: the background colour.
        eight: cells that touch at corners are connected too.
        one_color: neighbours of different colours belong to different objects.
        max_objects: the list is empty if there are more.
    """
    height, width = grid.shape
    layers = np.zeros((1, height + 1, width), dtype=bool)
    if one_color:  # each colour in a layer of its own, an empty row below it, labelled in one pass
        counts = np.bincount(grid.ravel(), minlength=10)
        counts[ground] = 0
        colors = np.flatnonzero(counts)
        layers = np.zeros((len(colors), height + 1, width), dtype=bool)
        layers[:, :-1] = grid == colors[:, None, None]
    else:
        layers[0, :-1] = grid != ground
    labels, count = ndimage.label(layers.reshape(-1, width), EIGHT if eight else FOUR)
    if not 0 < count <= max_objects:
        return []
    items = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels, count), 1):
        top = rows.start % (height + 1)
        box = slice(top, top + rows.stop - rows.start), columns
        items.append(object_at(grid, box, labels[rows, columns] == label))
    return items


@lru_cache(maxsize=4096)
def _find_objects(content: bytes, shape: tuple[int, int], eight: bool, one_color: bool) -> Objects | Refusal:
    grid = np.frombuffer(content, dtype=np.uint8).reshape(shape)
    return _sort_objects(find_connected(grid, 0, eight, one_color, _MAX_OBJECTS))


@primitive(2)
def components(grid: Grid) -> Objects | Refusal:
    """The one-coloured objects of `grid`, joined at sides.

    >>> [text(item) for item in components(grid("110/002")).items]
    ['11', '2']
    """
    return _find_objects(grid.tobytes(), grid.shape, False, True)


@primitive(2.5)
def components_diagonal(grid: Grid) -> Objects | Refusal:
    """The one-coloured objects of `grid`, joined at sides or corners.

    >>> [text(item) for item in components_diagonal(grid("100/010")).items]
    ['10/01']
    """
    return _find_objects(grid.tobytes(), grid.shape, True, True)


@primitive(4)
def blobs(grid: Grid) -> Objects | Refusal:
    """The many-coloured objects of `grid`, joined at sides.

    >>> [text(item) for item in blobs(grid("12003/00003")).items]
    ['12', '3/3']
    """
    return _find_objects(grid.tobytes(), grid.shape, False, False)


@primitive(2.5)
def blobs_diagonal(grid: Grid) -> Objects | Refusal:
    """The many-coloured objects of `grid`, joined at sides or corners.

    >>> [text(item) for item in blobs_diagonal(grid("100/020/000/003")).items]
    ['10/02', '3']
    """
    return _find_objects(grid.tobytes(), grid.shape, True, False)


@primitive(4)
def color_layers(grid: Grid) -> Objects | Refusal:
    """The colours of `grid`, the cells of each as one object.

    >>> [text(item) for item in color_layers(grid("102/020")).items]
    ['1', '02/20']
    """
    items = []
    for color in colors_of(grid).tolist():
        layer = grid == color
        box = bounding_box(layer)
        assert box is not None
        items.append(object_at(grid, box, layer[box]))
    return _sort_objects(items)


@primitive(5)
def holes(grid: Grid) -> Objects | Refusal:
    """The black areas of `grid`, joined at sides, that do not reach its border.

    >>> [(item.top, item.left, item.mask.shape) for item in holes(grid("1111/1011/1111")).items]
    [(1, 1, (1, 1))]
    """
    labels, _ = ndimage.label(grid == 0, FOUR)
    outside = {*labels[0].tolist(), *labels[-1].tolist(), *labels[:, 0].tolist(), *labels[:, -1].tolist()}
    boxes = enumerate(ndimage.find_objects(labels), 1)
    return _sort_objects([object_at(grid, box, labels[box] == label) for label, box in boxes if label not in outside])


@primitive(5)
def areas(grid: Grid) -> Objects | Refusal:
    """The areas of one colour in `grid`, black ones too, joined at sides.

    >>> len(areas(grid("010/010")).items)
    3
    """
    items: list[Object] = []
    for color in np.flatnonzero(np.bincount(grid.ravel(), minlength=10)).tolist():
        labels, count = ndimage.label(grid == color, FOUR)
        if len(items) + count > _MAX_OBJECTS:
            return NOTHING
        boxes = enumerate(ndimage.find_objects(labels), 1)
        items += [object_at(grid, box, labels[box] == label) for label, box in boxes]
    return _sort_objects(items)


@primitive(3)
def pieces(grid: Grid) -> Objects | Refusal:
    """The pieces of `grid` between lines of one colour that cross it.

    >>> [text(item) for item in pieces(grid("105/555/025")).items]
    ['10', '02']
    """
    lines = _find_ruling_lines(grid)
    if lines is None:
        return NOTHING
    rows, columns, _ = lines
    boxes = [(row, column) for row in _spans(rows) for column in _spans(columns)]
    items = [object_at(grid, box, np.ones(grid[box].shape, dtype=bool)) for box in boxes]
    return _sort_objects(items) if len(items) > 1 else NOTHING


def _find_ruling_lines(grid: Array) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], int] | None:
    """Returns which rows and columns are lines, and their colour: the one with most lines, black last."""
    flat_rows, flat_columns = (grid == grid[:, :1]).all(axis=1), (grid == grid[:1]).all(axis=0)
    lines = np.concatenate([grid[flat_rows, 0], grid[0, flat_columns]])
    if not len(lines) or (flat_rows.all() and flat_columns.all()):
        return None
    counts = 2 * np.bincount(lines, minlength=10)
    counts[0] = min(counts[0], 1)
    color = int(counts.argmax())
    return flat_rows & (grid[:, 0] == color), flat_columns & (grid[0] == color), color


def _spans(line: npt.NDArray[np.bool_]) -> list[slice]:
    """Returns the spans between the positions that are lines."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], line, [True]]).astype(np.int8)))
    return [slice(start, end) for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]


def _cut_evenly(grid: Array, rows: int, columns: int) -> Objects | Refusal:
    """Cuts a grid into `rows` x `columns` equal parts; refuses if its sides cannot be divided so."""
    height, width = grid.shape
    if height % rows or width % columns:
        return NOTHING
    tall, wide = height // rows, width // columns
    mask = np.ones((tall, wide), dtype=bool)
    corners = [(tall * row, wide * column) for row in range(rows) for column in range(columns)]
    items = [object_at(grid, (slice(top, top + tall), slice(left, left + wide)), mask) for top, left in corners]
    return _sort_objects(items) if len(items) > 1 else NOTHING


@primitive(4)
def halves_across(grid: Grid) -> Objects | Refusal:
    """The left and the right half of `grid`.

    >>> [text(item) for item in halves_across(grid("1234")).items]
    ['12', '34']
    """
    return _cut_evenly(grid, 1, 2)


@primitive(4)
def halves_down(grid: Grid) -> Objects | Refusal:
    """The top and the bottom half of `grid`.

    >>> [text(item) for item in halves_down(grid("12/34")).items]
    ['12', '34']
    """
    return _cut_evenly(grid, 2, 1)


@primitive(5)
def quarters(grid: Grid) -> Objects | Refusal:
    """The four quarters of `grid`.

    >>> [text(item) for item in quarters(grid("12/34")).items]
    ['1', '2', '3', '4']
    """
    return _cut_evenly(grid, 2, 2)


@primitive(5)
def squares(grid: Grid) -> Objects | Refusal:
    """The squares that `grid` is a strip of.

    >>> [text(item) for item in squares(grid("123456/789123")).items]
    ['12/78', '34/91', '56/23']
    """
    height, width = grid.shape
    side = min(height, width)
    return _cut_evenly(grid, height // side, width // side) if height % side == width % side == 0 else NOTHING


@primitive(6)
def thirds(grid: Grid) -> Objects | Refusal:
    """The nine ninths of `grid`.

    >>> len(thirds(grid("123/456/789")).items)
    9
    """
    return _cut_evenly(grid, 3, 3)


@primitive(6)
def row_strips(grid: Grid) -> Objects:
    """The rows of `grid`.

    >>> [text(item) for item in row_strips(grid("12/34")).items]
    ['12', '34']
    """
    mask = np.ones((1, grid.shape[1]), dtype=bool)
    return Objects(tuple(Object(grid[r : r + 1], mask, r, 0, grid) for r in range(len(grid))))


@primitive(6)
def column_strips(grid: Grid) -> Objects:
    """The columns of `grid`.

    >>> [text(item) for item in column_strips(grid("12/34")).items]
    ['1/3', '2/4']
    """
    mask = np.ones((len(grid), 1), dtype=bool)
    return Objects(tuple(Object(grid[:, c : c + 1], mask, 0, c, grid) for c in range(grid.shape[1])))


@primitive(4)
def ruled_lines(grid: Grid) -> Grid | Refusal:
    """The lines of one colour that cross `grid`, all else black.

    >>> text(ruled_lines(grid("105/555/025")))
    '005/555/005'
    """
    lines = _find_ruling_lines(grid)
    if lines is None or not lines[2]:
        return NOTHING
    rows, columns, color = lines
    out = np.zeros_like(grid)
    out[rows] = color
    out[:, columns] = color
    return out
