"""Outputs as one value laid on another.

What lies on top must be right wherever it is coloured; what lies below may be wrong only where the top covers it.
"""

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint8]


class Layers:
    """Values that may lie on top, and values that may lie below.

    Args:
        cells: (N,) wanted colours of all demonstrations' cells.
        most: of each sort that are kept.
    """

    def __init__(self, cells: Bits, most: int) -> None:
        self._wanted, self._most = cells, most
        self._wrong_allowed = 0.6 * len(cells)
        width = (len(cells) + 7) // 8
        self._covered, self._missing = np.zeros((most, width), np.uint8), np.zeros((most, width), np.uint8)
        self._tops: list[int] = []
        self._bottoms: list[int] = []

    def add(self, node: int, cells: Bits) -> list[tuple[int, int]]:
        """Takes in a node with (N,) cells; gives (top, bottom) pairs of nodes that make the output."""
        wrong, colored = cells != self._wanted, cells != 0
        pairs: list[tuple[int, int]] = []
        missing = np.packbits(wrong)
        if wrong.sum() <= self._wrong_allowed:
            found = ~(missing & ~self._covered[: len(self._tops)]).any(axis=1)
            pairs += [(self._tops[top], node) for top in np.flatnonzero(found).tolist()]
            if len(self._bottoms) < self._most:
                self._missing[len(self._bottoms)] = missing
                self._bottoms.append(node)
        if colored.any() and not (wrong & colored).any():
            covered = np.packbits(colored)
            found = ~(self._missing[: len(self._bottoms)] & ~covered).any(axis=1)
            pairs += [(node, self._bottoms[bottom]) for bottom in np.flatnonzero(found).tolist()]
            if len(self._tops) < self._most:
                self._covered[len(self._tops)] = covered
                self._tops.append(node)
        return pairs
