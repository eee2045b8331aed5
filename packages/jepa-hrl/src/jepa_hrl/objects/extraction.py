"""Objects of many grids at once: connected cells of other colours than the ground. G grids, N objects of all."""

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
class Extracted:
    """Objects, grid after grid, in each in reading order of their boxes' corners.

    Attributes:
        owners: (N,) the grid of each.
        tops, lefts: (N,) corners of their boxes.
        masks: (N) bool, which cells of the box are the object's.
        palettes: (N, 10) of its cells, how many have each colour.
        counts: (G, 10) of a grid's cells, how many have each colour.
        grounds: (G,) a grid's most frequent colour, the lowest on a tie.
    """

    owners: Integers
    tops: Integers
    lefts: Integers
    masks: list[Flags]
    palettes: Integers
    counts: Integers
    grounds: Integers


def extract_objects(grids: Sequence[Grid], eight: bool = True, one_color: bool = True) -> Extracted:
    """The objects of grids.

    Args:
        eight: cells that touch at corners are connected too.
        one_color: neighbours of different colours are different objects.
    """
    # One labelling for all: layers below each other, an empty row between them, each colour in a layer of its own.
    height, width = max(len(grid) for grid in grids) + 1, max(grid.shape[1] for grid in grids)
    cells = np.full((len(grids), height, width), NUM_COLORS, dtype=np.uint8)
    for place, grid in enumerate(grids):
        cells[place, : grid.shape[0], : grid.shape[1]] = grid
    counts = _color_counts(cells.reshape(len(grids), -1))
    grounds = counts.argmax(axis=1)
    if one_color:
        others = counts > 0
        others[np.arange(len(grids)), grounds] = False
        layers, colors = np.nonzero(others)
        marked = cells[layers] == colors[:, None, None]
    else:
        layers = np.arange(len(grids))
        marked = (cells != grounds[:, None, None]) & (cells < NUM_COLORS)
    labels, number = ndimage.label(marked.reshape(-1, width), EIGHT if eight else FOUR)
    boxes = ndimage.find_objects(labels, number) if number else []
    rows = np.array([box[0].start for box in boxes], dtype=np.int64)
    lefts = np.array([box[1].start for box in boxes], dtype=np.int64)
    layer, tops = np.divmod(rows, height)
    order = np.lexsort((lefts, tops, layers[layer]))
    masks = [labels[boxes[place]] == place + 1 for place in order.tolist()]
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    palettes = np.zeros((number, NUM_COLORS), dtype=np.int64)
    if one_color:
        palettes[np.arange(number), colors[layer]] = sizes
    else:
        of_object = labels.ravel() > 0
        colored = cells.reshape(-1)[of_object].astype(np.int64)
        np.add.at(palettes, (labels.ravel()[of_object] - 1, colored), 1)
    return Extracted(layers[layer][order], tops[order], lefts[order], masks, palettes[order], counts, grounds)


def _color_counts(cells: npt.NDArray[np.uint8]) -> Integers:
    """(G, 10) how many of a row's cells have each colour."""
    kinds = NUM_COLORS + 1  # what is no cell has one of its own
    places = cells + kinds * np.arange(len(cells))[:, None]
    return np.bincount(places.ravel(), minlength=kinds * len(cells)).reshape(-1, kinds)[:, :NUM_COLORS]
