"""Helpers that several families of primitives share."""

import numpy as np
import numpy.typing as npt

from jepa_hrl.dsl.types import Array, Object


def color_counts(grid: Array) -> npt.NDArray[np.int64]:
    """(10,) counts the cells of each colour; black counts as 0."""
    counts = np.bincount(grid.ravel(), minlength=10)
    counts[0] = 0
    return counts


def colors_of(grid: Array) -> npt.NDArray[np.int64]:
    """Returns a grid's colours other than black, ascending."""
    return np.flatnonzero(np.bincount(grid.ravel(), minlength=10)[1:]) + 1


def main_color(item: Object) -> int:
    """Returns an object's most frequent colour; the cells of a piece between lines may be black."""
    return int(np.bincount(item.cells[item.mask], minlength=10).argmax())


def add_border(plane: npt.NDArray[np.generic], value: int) -> Array:
    """(H + 2, W + 2) puts a ring of one value around a plane."""
    out = np.full((plane.shape[0] + 2, plane.shape[1] + 2), value, dtype=np.uint8)
    out[1:-1, 1:-1] = plane
    return out
