"""A grid as a bag of object tokens and a token of its own.

The ground is the grid's most frequent colour; objects are the connected cells of other colours. Every field is in 0..1.
Moving an object within its grid changes its position fields alone, renaming its colours its colour fields alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from arc_core.grid import MAX_SIDE, NUM_COLORS, Grid
from jepa_hrl.dsl.primitives.measures import count_holes
from jepa_hrl.objects.extraction import Integers, extract_objects

Floats = npt.NDArray[np.float32]

MAX_OBJECTS = 32
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
_AT_ONCE = 32


@dataclass(frozen=True)
class Tokens:
    """Tokens of G grids.

    Attributes:
        objects: (N, OBJECT_FIELDS) grid after grid, of each at most 32: where there are more, the ones with most cells;
            in reading order.
        grids: (G, GRID_FIELDS).
        counts: (G,) objects of each.
    """

    objects: Floats
    grids: Floats
    counts: Integers


def tokenize(grids: Sequence[Grid], eight: bool = True, one_color: bool = True) -> Tokens:
    """The tokens of grids.

    Args:
        eight, one_color: see `extract_objects`.
    """
    order = sorted(range(len(grids)), key=lambda place: grids[place].shape)  # like ones together: little is padded
    parts = [order[first : first + _AT_ONCE] for first in range(0, len(order), _AT_ONCE)]
    found = [_tokenize([grids[place] for place in part], eight, one_color) for part in parts]
    back = np.argsort(order)
    counts = np.concatenate([tokens.counts for tokens in found])
    of_objects = np.argsort(np.repeat(order, counts), kind="stable")
    return Tokens(
        np.concatenate([tokens.objects for tokens in found])[of_objects],
        np.concatenate([tokens.grids for tokens in found])[back],
        counts[back],
    )


def _tokenize(grids: Sequence[Grid], eight: bool, one_color: bool) -> Tokens:
    found = extract_objects(grids, eight, one_color)
    sides = np.array([grid.shape for grid in grids])
    summaries = np.zeros((len(grids), GRID_FIELDS), dtype=np.float32)
    summaries[:, SIZE] = sides / MAX_SIDE
    summaries[:, PALETTE] = found.counts / sides.prod(axis=1)[:, None]
    summaries[:, GROUND] = found.grounds[:, None] == np.arange(NUM_COLORS)
    counts = np.bincount(found.owners, minlength=len(grids))
    summaries[:, COUNT] = np.minimum(counts, MAX_OBJECTS) / MAX_OBJECTS

    objects = np.zeros((len(found.owners), OBJECT_FIELDS), dtype=np.float32)
    if len(objects):
        forms = [_form(mask.shape, mask.tobytes()) for mask in found.masks]
        corners = np.stack([found.tops, found.lefts], axis=1)
        ends = corners + [mask.shape for mask in found.masks]
        objects[:, COLORS] = found.palettes / found.palettes.sum(axis=1, keepdims=True)
        objects[:, BOX] = np.concatenate([corners, ends], axis=1) / MAX_SIDE
        objects[:, CENTER] = (corners + [(down, across) for down, across, _ in forms]) / MAX_SIDE
        objects[:, BORDER] = np.concatenate([corners == 0, ends == sides[found.owners]], axis=1)
        objects[:, AREA:] = [form for _, _, form in forms]
    if counts.max() > MAX_OBJECTS:
        objects = objects[_largest(found.owners, found.palettes.sum(axis=1), counts)]
    return Tokens(objects, summaries, np.minimum(counts, MAX_OBJECTS))


def _largest(owners: Integers, cells: Integers, counts: Integers) -> Integers:
    """Places of each grid's objects with most cells, the first on a tie; in order."""
    by_size = np.lexsort((-cells, owners))
    ranks = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_size[ranks < MAX_OBJECTS])


@lru_cache(maxsize=1 << 15)
def _form(shape: tuple[int, int], mask_bytes: bytes) -> tuple[float, float, Floats]:
    """The middle of a mask's cells and the fields that neither place nor colour change; forms come again and again.

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
    found[HOLES] = min(count_holes(mask), _MOST_HOLES) / _MOST_HOLES
    turns = mask[:, ::-1], mask[::-1], mask.T, mask[::-1, ::-1].T
    found[SYMMETRY] = [np.array_equal(mask, turned) for turned in turns]
    found[SHAPE] = (_pooling(tall) @ mask @ _pooling(wide).T).ravel()
    return *middle, found[AREA:]


@lru_cache(maxsize=MAX_SIDE)
def _pooling(side: int) -> Floats:
    """(8, side) shares of a side's cells that lie in each eighth of it; rows sum to 1."""
    edges = np.arange(SHAPE_SIDE + 1) * side / SHAPE_SIDE
    cells = np.arange(side)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return (overlap.clip(min=0) * SHAPE_SIDE / side).astype(np.float32)
