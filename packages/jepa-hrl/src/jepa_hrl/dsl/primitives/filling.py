"""Enclosed areas, outlines, hulls, growth and erosion."""

import numpy as np
from scipy import ndimage

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.primitives.objects import EIGHT, FOUR, components, components_diagonal
from jepa_hrl.dsl.primitives.planes import add_border
from jepa_hrl.dsl.primitives.selection import window
from jepa_hrl.dsl.types import NOTHING, Array, Grid, Mask, Refusal


def _flood_from_border(grid: Array, eight: bool) -> Array:
    """(H, W) bool: the black cells that a path of black cells joins to the border; `eight` lets paths cross corners."""
    labels, _ = ndimage.label(add_border(grid == 0, 1), EIGHT if eight else FOUR)
    return np.asarray(labels[1:-1, 1:-1] == labels[0, 0])


@primitive(3)
def enclosed(grid: Grid) -> Mask:
    """The black cells of `grid` from which no path along sides leads out.

    >>> enclosed(grid("111/101/111")).tolist()
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    """
    return ((grid == 0) & ~_flood_from_border(grid, False)).astype(np.uint8)


@primitive(5)
def enclosed_tightly(grid: Grid) -> Mask:
    """The black cells of `grid` from which no path leads out, not even across corners.

    >>> enclosed_tightly(grid("011/101/111")).tolist()
    [[0, 0, 0], [0, 0, 0], [0, 0, 0]]
    """
    return ((grid == 0) & ~_flood_from_border(grid, True)).astype(np.uint8)


@primitive(4)
def fill_holes(grid: Grid) -> Grid:
    """`grid` with the holes of its objects filled in their colours.

    >>> text(fill_holes(grid("111/101/111")))
    '111/111/111'
    """
    out = grid.copy()
    objects = components_diagonal(grid)
    if isinstance(objects, Refusal):
        return out
    for item in sorted(objects.items, key=lambda item: item.mask.size, reverse=True):
        if min(item.mask.shape) < 3:
            continue  # too narrow for a hole
        area = window(out, item)
        inside = ~_flood_from_border(item.mask.astype(np.uint8), False) & ~item.mask & (area == 0)
        area[inside] = item.cells.max()
    return out


def _dilate(mask: Array, eight: bool) -> Array:
    """(H, W) bool: the cells of a mask and their neighbours, at corners too if `eight` (binary dilation)."""
    vertical = mask.copy()
    vertical[1:] |= mask[:-1]
    vertical[:-1] |= mask[1:]
    source = vertical if eight else mask
    dilated = vertical.copy()
    dilated[:, 1:] |= source[:, :-1]
    dilated[:, :-1] |= source[:, 1:]
    return dilated


@primitive(4)
def outline(grid: Grid) -> Mask:
    """The black cells of `grid` next to a coloured one, at sides or corners.

    >>> outline(grid("000/010/000")).tolist()
    [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    return (_dilate(grid != 0, True) & (grid == 0)).astype(np.uint8)


@primitive(4)
def outline_sides(grid: Grid) -> Mask:
    """The black cells of `grid` next to a coloured one, at sides.

    >>> outline_sides(grid("000/010/000")).tolist()
    [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    """
    return (_dilate(grid != 0, False) & (grid == 0)).astype(np.uint8)


@primitive(5)
def outline_corners(grid: Grid) -> Mask:
    """The black cells of `grid` that touch a coloured one at corners alone.

    >>> outline_corners(grid("000/010/000")).tolist()
    [[1, 0, 1], [0, 0, 0], [1, 0, 1]]
    """
    marked = grid != 0
    return (_dilate(marked, True) & ~_dilate(marked, False)).astype(np.uint8)


@primitive(4)
def core(grid: Grid) -> Mask:
    """The coloured cells of `grid` that no black cell and no border touches at a side or corner.

    >>> core(grid("1111/1111/1111")).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    return (_dilate(add_border(grid == 0, 1), True)[1:-1, 1:-1] == 0).astype(np.uint8)


@primitive(5)
def inland(grid: Grid) -> Mask:
    """The coloured cells of `grid` that no cell of another colour touches at a side or corner.

    >>> inland(grid("1112/1112/1112")).tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    """
    same = grid != 0
    for axis in range(2):
        change = np.diff(grid.astype(np.int8), axis=axis) != 0
        here = same if axis == 0 else same.T
        crossing = change if axis == 0 else change.T
        here[1:] &= ~crossing
        here[:-1] &= ~crossing
    return same.astype(np.uint8)


@primitive(4)
def grow(grid: Grid) -> Grid:
    """`grid` with its colours grown by a cell into black, at sides and corners.

    >>> text(grow(grid("100/000/000")))
    '110/110/000'
    """
    padded = add_border(grid, 0)
    across = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    grown = np.maximum(np.maximum(across[:, :-2], across[:, 1:-1]), across[:, 2:])
    return np.where(grid == 0, grown, grid)


@primitive(5)
def grow_sides(grid: Grid) -> Grid:
    """`grid` with its colours grown by a cell into black, at sides.

    >>> text(grow_sides(grid("100/000")))
    '110/100'
    """
    padded = add_border(grid, 0)
    sides = np.maximum(np.maximum(padded[:-2, 1:-1], padded[2:, 1:-1]), np.maximum(padded[1:-1, :-2], padded[1:-1, 2:]))
    return np.where(grid == 0, sides, grid)


@primitive(5)
def fill_boxes(grid: Grid) -> Grid | Refusal:
    """`grid` with the black cells of each object's bounding box in its colour, larger boxes first.

    >>> text(fill_boxes(grid("110/100")))
    '110/110'
    """
    objects = components_diagonal(grid)
    if isinstance(objects, Refusal):
        return objects
    out = grid.copy()
    for item in sorted(objects.items, key=lambda item: item.mask.size, reverse=True):
        area = window(out, item)
        area[area == 0] = item.cells.max()
    return out


@primitive(4)
def hollow(grid: Grid) -> Grid:
    """`grid` with the insides of its coloured areas black.

    >>> text(hollow(grid("111/111/111")))
    '111/101/111'
    """
    return np.where(core(grid) != 0, 0, grid)


@primitive(4)
def denoise(grid: Grid) -> Grid | Refusal:
    """`grid` without objects of a single cell.

    >>> text(denoise(grid("110/001")))
    '110/000'
    """
    objects = components(grid)
    if isinstance(objects, Refusal) or 1 not in objects.sizes:
        return NOTHING
    out = grid.copy()
    for item, cells in zip(objects.items, objects.sizes, strict=True):
        if cells == 1:
            out[item.top, item.left] = 0
    return out


@primitive(5)
def lone_cells(grid: Grid) -> Grid | Refusal:
    """The objects of `grid` that are single cells.

    >>> text(lone_cells(grid("110/001")))
    '000/001'
    """
    rest = denoise(grid)
    return rest if isinstance(rest, Refusal) else grid - rest


@primitive(5)
def shared_sides(grid: Grid) -> Grid:
    """The coloured cells of `grid` that have a cell of the same colour at a side.

    >>> text(shared_sides(grid("110/002")))
    '110/000'
    """
    across, down = grid[:, 1:] == grid[:, :-1], grid[1:] == grid[:-1]
    kept = np.zeros(grid.shape, dtype=bool)
    kept[:, 1:] |= across
    kept[:, :-1] |= across
    kept[1:] |= down
    kept[:-1] |= down
    return grid * kept


@primitive(6)
def majority(grid: Grid) -> Grid:
    """`grid` with each cell the most frequent colour of the 3 x 3 around it, its own on a tie.

    >>> text(majority(grid("111/121/111")))
    '111/111/111'
    """
    padded = add_border(grid, 10)
    layers = (padded[None] == np.arange(10, dtype=np.uint8)[:, None, None]).astype(np.uint8)
    rows = layers[:, :-2] + layers[:, 1:-1] + layers[:, 2:]
    counts = 2 * (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) + layers[:, 1:-1, 1:-1]
    return counts.argmax(axis=0).astype(np.uint8)
