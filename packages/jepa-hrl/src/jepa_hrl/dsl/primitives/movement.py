"""Gravity and rigid falls."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.primitives.objects import components_diagonal
from jepa_hrl.dsl.primitives.selection import window
from jepa_hrl.dsl.types import NOTHING, Array, Grid, Refusal

Cell = TypeVar("Cell", bound=np.generic)


def _fall_right(grid: Array) -> Array:
    """Moves the coloured cells of each row to the right end and keeps their order."""
    order = (grid != 0).argsort(axis=1, kind="stable")
    return grid[np.arange(len(grid))[:, None], order]


@primitive(3.5)
def fall_right(grid: Grid) -> Grid:
    """`grid` with its cells fallen to the right.

    >>> text(fall_right(grid("102/030")))
    '012/003'
    """
    return _fall_right(grid)


@primitive(3.5)
def fall_left(grid: Grid) -> Grid:
    """`grid` with its cells fallen to the left.

    >>> text(fall_left(grid("102/030")))
    '120/300'
    """
    return _fall_right(grid[:, ::-1])[:, ::-1]


@primitive(3.5)
def fall_down(grid: Grid) -> Grid:
    """`grid` with its cells fallen down.

    >>> text(fall_down(grid("12/00")))
    '00/12'
    """
    return _fall_right(grid.T).T


@primitive(3.5)
def fall_up(grid: Grid) -> Grid:
    """`grid` with its cells fallen up.

    >>> text(fall_up(grid("00/12")))
    '12/00'
    """
    return _fall_right(grid.T[:, ::-1])[:, ::-1].T


def _drop_objects(grid: Array, across: bool, back: bool) -> Array | Refusal:
    """Moves objects as rigid bodies as far as they go: down, right with `across`, up or left with `back`."""
    objects = components_diagonal(np.ascontiguousarray(grid))
    if isinstance(objects, Refusal):
        return objects

    def orient(plane: npt.NDArray[Cell]) -> npt.NDArray[Cell]:
        """Views a plane so that the objects fall down."""
        upright = plane.T if across else plane
        return upright[::-1] if back else upright

    moved = np.zeros_like(grid)
    below, items = orient(moved), []
    for item in objects.items:
        top, left = (item.left, item.top) if across else (item.top, item.left)
        mask, cells = orient(item.mask), orient(item.cells)
        if back:
            top = len(below) - top - len(mask)
        items.append((top, left, mask, cells))
    for top, left, mask, cells in sorted(items, key=lambda item: (-item[0] - len(item[2]), item[0], item[1])):
        tall, wide = mask.shape
        column = below[:, left : left + wide]
        while top + tall < len(below) and not column[top + 1 : top + 1 + tall][mask].any():
            top += 1
        np.copyto(column[top : top + tall], cells, where=mask)
    return moved


@primitive(5)
def drop_down(grid: Grid) -> Grid | Refusal:
    """`grid` with its objects fallen down as wholes.

    >>> text(drop_down(grid("11/01/00")))
    '00/11/01'
    """
    return _drop_objects(grid, False, False)


@primitive(5)
def drop_up(grid: Grid) -> Grid | Refusal:
    """`grid` with its objects risen as wholes.

    >>> text(drop_up(grid("00/11/01")))
    '11/01/00'
    """
    return _drop_objects(grid, False, True)


@primitive(5)
def drop_right(grid: Grid) -> Grid | Refusal:
    """`grid` with its objects moved to the right as wholes.

    >>> text(drop_right(grid("110/100")))
    '011/010'
    """
    return _drop_objects(grid, True, False)


@primitive(5)
def drop_left(grid: Grid) -> Grid | Refusal:
    """`grid` with its objects moved to the left as wholes.

    >>> text(drop_left(grid("011/010")))
    '110/100'
    """
    return _drop_objects(grid, True, True)


def _gather(grid: Array) -> Array | Refusal:
    """Moves every object but the largest straight until it meets the largest."""
    objects = components_diagonal(np.ascontiguousarray(grid))
    if isinstance(objects, Refusal) or len(objects.items) < 2:
        return NOTHING
    sizes = objects.sizes
    anchor = objects.items[sizes.index(max(sizes))]
    moved = np.zeros_like(grid)
    tall, wide = anchor.mask.shape
    np.copyto(window(moved, anchor), anchor.cells, where=anchor.mask)
    for item in objects.items:
        if item is anchor:
            continue
        step = (
            _direction_to(item.top, item.mask.shape[0], anchor.top, tall),
            _direction_to(item.left, item.mask.shape[1], anchor.left, wide),
        )
        if (step[0] != 0) == (step[1] != 0):
            return NOTHING  # neither above, below nor beside
        top, left = item.top, item.left
        while True:
            row, column = top + step[0], left + step[1]
            if (
                row < 0
                or column < 0
                or row + item.mask.shape[0] > len(grid)
                or column + item.mask.shape[1] > grid.shape[1]
            ):
                return NOTHING
            if moved[row : row + item.mask.shape[0], column : column + item.mask.shape[1]][item.mask].any():
                break
            top, left = row, column
        np.copyto(moved[top : top + item.mask.shape[0], left : left + item.mask.shape[1]], item.cells, where=item.mask)
    return moved


def _direction_to(start: int, length: int, other: int, extent: int) -> int:
    """Returns the step along an axis from one span to another: 1 ahead, -1 back, 0 where they overlap."""
    return 1 if start + length <= other else -1 if start >= other + extent else 0


@primitive(5)
def gather(grid: Grid) -> Grid | Refusal:
    """`grid` with its objects moved straight against the largest.

    >>> text(gather(grid("2000/0011/0011")))
    'there is nothing of that sort'
    >>> text(gather(grid("20011/00011")))
    '00211/00011'
    """
    return _gather(grid)
