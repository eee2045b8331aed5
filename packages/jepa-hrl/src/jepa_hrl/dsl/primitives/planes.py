"""What several families compute of grids."""

import numpy as np
import numpy.typing as npt

from jepa_hrl.dsl.types import Array, Object


def color_counts(grid: Array) -> npt.NDArray[np.int64]:
    """(10,) cells of each colour; black is not counted."""
    counts = np.bincount(grid.ravel(), minlength=10)
    counts[0] = 0
    return counts


def colors_of(grid: Array) -> npt.NDArray[np.int64]:
    """The colours other than black, ascending."""
    return np.flatnonzero(np.bincount(grid.ravel(), minlength=10)[1:]) + 1


def main_color(item: Object) -> int:
    """An object's most frequent colour; black where cells of a piece are."""
    return int(np.bincount(item.cells[item.mask], minlength=10).argmax())


def bordered(plane: npt.NDArray[np.generic], value: int) -> Array:
    """(H + 2, W + 2) a plane with a ring of one value around it."""
    out = np.full((plane.shape[0] + 2, plane.shape[1] + 2), value, dtype=np.uint8)
    out[1:-1, 1:-1] = plane
    return out
