"""Tokens of a grid: a set of object tokens and one token of the whole grid.

The ground is the grid's most frequent colour; objects are connected sets of cells of other colours. Every field is in
0..1. A translation of an object within its grid changes only its position fields, and a permutation of the colours
changes only the colour fields.

Shapes: G grids, N objects of all grids together.
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

_MAX_HOLES = 4
_GRIDS_PER_BATCH = 32


@dataclass(frozen=True)
class Tokens:
    """The tokens of G grids.

    Attributes:
        objects: (N, OBJECT_FIELDS) float32, grid after grid in reading order; of a grid with more than MAX_OBJECTS
            objects, those with most cells.
        grids: (G, GRID_FIELDS) float32.
        counts: (G,) the number of each grid's tokens in `objects`.
    """

    objects: Floats
    grids: Floats
    counts: Integers


def tokenize(grids: Sequence[Grid], eight: bool = True, one_color: bool = True) -> Tokens:
    """Computes the tokens of grids.

    Args:
        grids: (H, W) colours 0..9, of any sizes.
        eight: cells that touch at corners are connected too.
        one_color: neighbours of different colours belong to different objects.
    """
    order = sorted(range(len(grids)), key=lambda index: grids[index].shape)  # similar sizes together need less padding
    batches = [order[start : start + _GRIDS_PER_BATCH] for start in range(0, len(order), _GRIDS_PER_BATCH)]
    parts = [_tokenize_batch([grids[index] for index in batch], eight, one_color) for batch in batches]
    grid_order = np.argsort(order)
    counts = np.concatenate([tokens.counts for tokens in parts])
    object_order = np.argsort(np.repeat(order, counts), kind="stable")
    return Tokens(
        np.concatenate([tokens.objects for tokens in parts])[object_order],
        np.concatenate([tokens.grids for tokens in parts])[grid_order],
        counts[grid_order],
    )


def _tokenize_batch(grids: Sequence[Grid], eight: bool, one_color: bool) -> Tokens:
    extracted = extract_objects(grids, eight, one_color)
    sides = np.array([grid.shape for grid in grids])
    grid_tokens = np.zeros((len(grids), GRID_FIELDS), dtype=np.float32)
    grid_tokens[:, SIZE] = sides / MAX_SIDE
    grid_tokens[:, PALETTE] = extracted.counts / sides.prod(axis=1)[:, None]
    grid_tokens[:, GROUND] = extracted.grounds[:, None] == np.arange(NUM_COLORS)
    counts = np.bincount(extracted.owners, minlength=len(grids))
    grid_tokens[:, COUNT] = np.minimum(counts, MAX_OBJECTS) / MAX_OBJECTS

    objects = np.zeros((len(extracted.owners), OBJECT_FIELDS), dtype=np.float32)
    if len(objects):
        shapes = [_shape_fields(mask.shape, mask.tobytes()) for mask in extracted.masks]
        corners = np.stack([extracted.tops, extracted.lefts], axis=1)
        ends = corners + [mask.shape for mask in extracted.masks]
        objects[:, COLORS] = extracted.palettes / extracted.palettes.sum(axis=1, keepdims=True)
        objects[:, BOX] = np.concatenate([corners, ends], axis=1) / MAX_SIDE
        objects[:, CENTER] = (corners + [(down, across) for down, across, _ in shapes]) / MAX_SIDE
        objects[:, BORDER] = np.concatenate([corners == 0, ends == sides[extracted.owners]], axis=1)
        objects[:, AREA:] = [fields for _, _, fields in shapes]
    if counts.max() > MAX_OBJECTS:
        objects = objects[_select_largest(extracted.owners, extracted.palettes.sum(axis=1), counts)]
    return Tokens(objects, grid_tokens, np.minimum(counts, MAX_OBJECTS))


def _select_largest(owners: Integers, cells: Integers, counts: Integers) -> Integers:
    """Returns the indices of each grid's MAX_OBJECTS largest objects, the earlier one on a tie, in ascending order."""
    by_size = np.lexsort((-cells, owners))
    ranks = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_size[ranks < MAX_OBJECTS])


@lru_cache(maxsize=1 << 15)
def _shape_fields(shape: tuple[int, int], mask_bytes: bytes) -> tuple[float, float, Floats]:
    """Computes the fields that depend only on an object's mask; cached, as the same masks return again and again.

    Args:
        shape: (h, w) of the mask.
        mask_bytes: the mask's (h, w) bool values.
    Returns:
        The mean row and column of the cells' centres, and the fields from AREA on.
    """
    mask = np.frombuffer(mask_bytes, dtype=bool).reshape(shape)
    tall, wide = shape
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    cells = int(rows.sum())
    middle = float(rows @ np.arange(0.5, tall)) / cells, float(columns @ np.arange(0.5, wide)) / cells
    token = np.zeros(OBJECT_FIELDS, dtype=np.float32)
    token[AREA] = cells**0.5 / MAX_SIDE
    token[HOLES] = min(count_holes(mask), _MAX_HOLES) / _MAX_HOLES
    reflections = mask[:, ::-1], mask[::-1], mask.T, mask[::-1, ::-1].T
    token[SYMMETRY] = [np.array_equal(mask, reflection) for reflection in reflections]
    token[SHAPE] = (_pooling_matrix(tall) @ mask @ _pooling_matrix(wide).T).ravel()
    return *middle, token[AREA:]


@lru_cache(maxsize=MAX_SIDE)
def _pooling_matrix(side: int) -> Floats:
    """(8, side) average-pooling weights from the cells of a side to its eighths; each row sums to 1."""
    edges = np.arange(SHAPE_SIDE + 1) * side / SHAPE_SIDE
    cells = np.arange(side)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return (overlap.clip(min=0) * SHAPE_SIDE / side).astype(np.float32)
