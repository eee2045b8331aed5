"""Object extraction for many grids at once: an object is a connected set of cells that are not of the ground's colour.

Shapes: G grids, N objects of all grids together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from arc_core.grid import NUM_COLORS, Grid
from jepa_hrl.dsl.primitives.objects import EIGHT, FOUR

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ExtractedObjects:
    """The objects of several grids, grid after grid, each grid's in reading order of their boxes' corners.

    Attributes:
        owners: (N,) the index of each object's grid.
        tops, lefts: (N,) row and column of the first cell of each object's bounding box.
        masks: N arrays of bool, (h, w) each: the cells of the box that are the object's.
        palettes: (N, 10) the number of the object's cells that have each colour.
        counts: (G, 10) the number of a grid's cells that have each colour.
        grounds: (G,) the most frequent colour of each grid, the lowest on a tie.
    """

    owners: Integers
    tops: Integers
    lefts: Integers
    masks: list[Flags]
    palettes: Integers
    counts: Integers
    grounds: Integers


def extract_objects(grids: Sequence[Grid], eight: bool = True, one_color: bool = True) -> ExtractedObjects:
    """Finds the objects of several grids.

    Args:
        grids: (H, W) colours 0..9, of any sizes.
        eight: cells that touch at corners are connected too.
        one_color: neighbours of different colours belong to different objects.
    """
    # One labelling for all: layers below each other, an empty row between them, each colour in a layer of its own.
    height, width = max(len(grid) for grid in grids) + 1, max(grid.shape[1] for grid in grids)
    cells = np.full((len(grids), height, width), NUM_COLORS, dtype=np.uint8)
    for index, grid in enumerate(grids):
        cells[index, : grid.shape[0], : grid.shape[1]] = grid
    counts = _color_counts(cells.reshape(len(grids), -1))
    grounds = counts.argmax(axis=1)
    if one_color:
        others = counts > 0
        others[np.arange(len(grids)), grounds] = False
        layers, colors = np.nonzero(others)
        is_object = cells[layers] == colors[:, None, None]
    else:
        layers = np.arange(len(grids))
        is_object = (cells != grounds[:, None, None]) & (cells < NUM_COLORS)
    labels, num_objects = ndimage.label(is_object.reshape(-1, width), EIGHT if eight else FOUR)
    boxes = ndimage.find_objects(labels, num_objects) if num_objects else []
    rows = np.array([box[0].start for box in boxes], dtype=np.int64)
    lefts = np.array([box[1].start for box in boxes], dtype=np.int64)
    layer, tops = np.divmod(rows, height)
    order = np.lexsort((lefts, tops, layers[layer]))
    masks = [labels[boxes[index]] == index + 1 for index in order.tolist()]
    sizes = np.bincount(labels.ravel(), minlength=num_objects + 1)[1:]
    palettes = np.zeros((num_objects, NUM_COLORS), dtype=np.int64)
    if one_color:
        palettes[np.arange(num_objects), colors[layer]] = sizes
    else:
        labeled = labels.ravel() > 0
        cell_colors = cells.reshape(-1)[labeled].astype(np.int64)
        np.add.at(palettes, (labels.ravel()[labeled] - 1, cell_colors), 1)
    return ExtractedObjects(layers[layer][order], tops[order], lefts[order], masks, palettes[order], counts, grounds)


def _color_counts(cells: npt.NDArray[np.uint8]) -> Integers:
    """(G, 10) counts how many cells of each row have each colour."""
    kinds = NUM_COLORS + 1  # the padding counts as one more colour
    bins = cells + kinds * np.arange(len(cells))[:, None]
    return np.bincount(bins.ravel(), minlength=kinds * len(cells)).reshape(-1, kinds)[:, :NUM_COLORS]
