"""A grid as a bag of object tokens and a token of its own.

The ground is the grid's most frequent colour; objects are the connected cells of other colours. Every field is in 0..1.
Moving an object within its grid changes its position fields alone, renaming its colours its colour fields alone.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from arc_core.grid import MAX_SIDE, Grid, most_common_color
from jepa_hrl.dsl.measures import hole_number
from jepa_hrl.dsl.objects import connected
from jepa_hrl.dsl.types import Object

Floats = npt.NDArray[np.float32]

MOST_OBJECTS = 32
SHAPE_SIDE = 8

# Fields of an object's token.
COLORS = slice(0, 10)  # share of its cells that have each colour
BOX = slice(10, 14)  # first row, first column, row below, column right, over 30
CENTER = slice(14, 16)  # mean row and column of its cells' middles, over 30
BORDER = slice(16, 20)  # whether it touches the top, left, bottom, right of the grid
AREA = 20  # square root of its cells over 30
HOLES = 21  # at most 4, over 4
SYMMETRY = slice(22, 26)  # whether its mask is its mirror: left-right, top-bottom, main diagonal, other diagonal
SHAPE = slice(26, 26 + SHAPE_SIDE**2)  # its box as 8 x 8 parts, the share of each that its cells cover
OBJECT_FIELDS = SHAPE.stop

# Fields of a grid's token.
SIZE = slice(0, 2)  # height and width over 30
PALETTE = slice(2, 12)  # share of the cells that have each colour
GROUND = slice(12, 22)  # one-hot
COUNT = 22  # of its objects, at most 32, over 32
GRID_FIELDS = COUNT + 1

_MOST_HOLES = 4


@dataclass(frozen=True)
class GridTokens:
    """Tokens of one grid.

    Attributes:
        objects: (n, OBJECT_FIELDS), n at most 32: where there are more, the ones with most cells; in reading order.
        grid: (GRID_FIELDS,).
    """

    objects: Floats
    grid: Floats


def extract_objects(grid: Grid, eight: bool = True, one_color: bool = True) -> list[Object]:
    """The objects of a grid, in reading order of their boxes' corners.

    Args:
        eight: cells that touch at corners are connected too.
        one_color: neighbours of different colours are different objects.
    """
    found = connected(grid, most_common_color(grid), eight, one_color, grid.size)
    return sorted(found, key=lambda item: (item.top, item.left))


def tokenize(grid: Grid, eight: bool = True, one_color: bool = True) -> GridTokens:
    """The tokens of a grid."""
    found = extract_objects(grid, eight, one_color)
    shown = found
    if len(found) > MOST_OBJECTS:
        largest = sorted(range(len(found)), key=lambda place: -np.count_nonzero(found[place].mask))[:MOST_OBJECTS]
        shown = [found[place] for place in sorted(largest)]
    objects = np.zeros((len(shown), OBJECT_FIELDS), dtype=np.float32)
    for row, item in zip(objects, shown, strict=True):
        _fill(row, item)
    summary = np.zeros(GRID_FIELDS, dtype=np.float32)
    counts = np.bincount(grid.ravel(), minlength=10)
    summary[SIZE] = np.array(grid.shape) / MAX_SIDE
    summary[PALETTE] = counts / grid.size
    summary[GROUND][most_common_color(grid)] = 1.0
    summary[COUNT] = min(len(found), MOST_OBJECTS) / MOST_OBJECTS
    return GridTokens(objects, summary)


def _fill(row: Floats, item: Object) -> None:
    mask = item.mask
    (tall, wide), (height, width) = mask.shape, item.source.shape
    cells, down, across, form = _form(mask.shape, mask.tobytes())
    row[COLORS] = np.bincount(item.cells[mask], minlength=10) / cells
    row[BOX] = np.array([item.top, item.left, item.top + tall, item.left + wide]) / MAX_SIDE
    row[CENTER] = (item.top + down) / MAX_SIDE, (item.left + across) / MAX_SIDE
    row[BORDER] = item.top == 0, item.left == 0, item.top + tall == height, item.left + wide == width
    row[AREA:] = form


@lru_cache(maxsize=1 << 15)
def _form(shape: tuple[int, int], mask_bytes: bytes) -> tuple[int, float, float, Floats]:
    """Cells of a mask, their middle, and the fields that neither place nor colour change; forms come again and again.

    Args:
        mask_bytes: (H, W) bool.
    """
    mask = np.frombuffer(mask_bytes, dtype=bool).reshape(shape)
    tall, wide = shape
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    cells = int(rows.sum())
    middle = float(rows @ np.arange(0.5, tall)) / cells, float(columns @ np.arange(0.5, wide)) / cells
    found = np.zeros(OBJECT_FIELDS, dtype=np.float32)
    found[AREA] = cells**0.5 / MAX_SIDE
    found[HOLES] = min(hole_number(mask), _MOST_HOLES) / _MOST_HOLES
    turns = mask[:, ::-1], mask[::-1], mask.T, mask[::-1, ::-1].T
    found[SYMMETRY] = [np.array_equal(mask, turned) for turned in turns]
    found[SHAPE] = (_pooling(tall) @ mask @ _pooling(wide).T).ravel()
    return cells, *middle, found[AREA:]


@lru_cache(maxsize=MAX_SIDE)
def _pooling(side: int) -> Floats:
    """(8, side) shares of a side's cells that lie in each eighth of it; rows sum to 1."""
    edges = np.arange(SHAPE_SIDE + 1) * side / SHAPE_SIDE
    cells = np.arange(side)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return (overlap.clip(min=0) * SHAPE_SIDE / side).astype(np.float32)
