"""Overlays: pairs of values of which one, laid on the other, produces the outputs.

The value on top must be right wherever it is coloured. The value below may be wrong only where the top covers it.
"""

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint8]


class OverlayIndex:
    """Values that may lie on top or below, as bit sets of the cells that they cover or have wrong.

    Args:
        cells: (N,) target colours of all demonstrations' cells.
        max_layers: how many values of each sort are kept.
    """

    def __init__(self, cells: Bits, max_layers: int) -> None:
        self._target, self._max_layers = cells, max_layers
        self._max_wrong = 0.6 * len(cells)
        width = (len(cells) + 7) // 8
        self._covered = np.zeros((max_layers, width), np.uint8)
        self._wrong = np.zeros((max_layers, width), np.uint8)
        self._tops: list[int] = []
        self._bottoms: list[int] = []

    def add(self, node: int, cells: Bits) -> list[tuple[int, int]]:
        """Adds a node with (N,) cells and returns the pairs (top, bottom) of nodes with it that produce the target."""
        wrong, colored = cells != self._target, cells != 0
        pairs: list[tuple[int, int]] = []
        packed_wrong = np.packbits(wrong)
        if wrong.sum() <= self._max_wrong:
            fits = ~(packed_wrong & ~self._covered[: len(self._tops)]).any(axis=1)
            pairs += [(self._tops[top], node) for top in np.flatnonzero(fits).tolist()]
            if len(self._bottoms) < self._max_layers:
                self._wrong[len(self._bottoms)] = packed_wrong
                self._bottoms.append(node)
        if colored.any() and not (wrong & colored).any():
            covered = np.packbits(colored)
            fits = ~(self._wrong[: len(self._bottoms)] & ~covered).any(axis=1)
            pairs += [(node, self._bottoms[bottom]) for bottom in np.flatnonzero(fits).tolist()]
            if len(self._tops) < self._max_layers:
                self._covered[len(self._tops)] = covered
                self._tops.append(node)
        return pairs
