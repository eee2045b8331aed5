"""How well a value and an output agree when one is turned, mirrored, cropped or shifted onto the other.

P = 64 placements: the output in its eight turns and mirrors, each at the value's four corners and moved from the first
corner by one cell each way, going round. What reaches beyond the value is left out. W words of 64 cells,
G values of one size.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arc_core.augment import NUM_DIHEDRAL, dihedral
from jepa_hrl.dsl.types import Array

NOWHERE = 255  # stands in a plane where no cell of the output lies
_MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1))
_MOST_SIZES = 100  # of values for which what was laid out is kept, at most 0.4 MiB each
COUNT = NUM_DIHEDRAL * (4 + len(_MOVES))

Bits = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class _Laid:
    """An output over values of one size.

    Attributes:
        planes: (P, H, W) uint8 colours, NOWHERE outside of the output.
        cells, colored: (P,) how many cells of the output lie there, and coloured ones.
        inside: (P, W) which cells those are.
        bits: (K, P, W) which cells have each of the output's K colours.
    """

    planes: Array
    cells: npt.NDArray[np.int64]
    colored: npt.NDArray[np.int64]
    inside: Bits
    bits: Bits


class Placements:
    """An output, and where it may lie in values."""

    def __init__(self, wanted: Array) -> None:
        self._turned = [dihedral(wanted, element) for element in range(NUM_DIHEDRAL)]
        self._colors = np.flatnonzero(np.bincount(wanted.ravel(), minlength=10)).astype(np.uint8)
        self._laid: dict[tuple[int, ...], _Laid] = {}  # by the values' size

    def agreement(self, values: Array) -> tuple[npt.NDArray[np.float32], Array]:
        """Compares values of one size with every placement.

        Args:
            values: (G, H, W).
        Returns:
            shares: (G, 3, P): of all cells laid upon each other, those that are equal; of the value's coloured cells
                among them; of the output's.
            planes: (G, H, W) the output in the placement with most equal cells, NOWHERE where it does not reach.
        """
        shape = values.shape[1:]
        laid = self._laid.get(shape)
        if laid is None:
            if len(self._laid) == _MOST_SIZES:
                self._laid.clear()
            laid = self._laid[shape] = self._lay(*shape)
        flat = values.reshape(len(values), 1, 1, -1)
        same = _count(_packed(flat == self._colors[:, None, None]) & laid.bits)
        colored_same = same[:, self._colors != 0].sum(axis=1)
        colored = _count(_packed(flat[:, 0] != 0) & laid.inside)
        shares = np.stack([
            same.sum(axis=1) / laid.cells, colored_same / np.maximum(colored, 1),
            colored_same / np.maximum(laid.colored, 1),
        ], axis=1, dtype=np.float32)  # fmt: skip
        return shares, laid.planes[shares[:, 0].argmax(axis=1)]

    def _lay(self, height: int, width: int) -> _Laid:
        laid = np.full((NUM_DIHEDRAL, 4 + len(_MOVES), height, width), NOWHERE, dtype=np.uint8)
        for turned, wanted in zip(laid, self._turned, strict=True):
            tall, wide = min(height, wanted.shape[0]), min(width, wanted.shape[1])
            for corner in range(4):
                rows = slice(-tall, None) if corner & 1 else slice(tall)
                columns = slice(-wide, None) if corner & 2 else slice(wide)
                turned[corner, rows, columns] = wanted[rows, columns]
        for place, move in enumerate(_MOVES, 4):
            laid[:, place] = np.roll(laid[:, 0], move, (1, 2))
        planes = laid.reshape(COUNT, height, width)
        flat = planes.reshape(COUNT, -1)
        inside = flat != NOWHERE
        return _Laid(
            planes, inside.sum(axis=1), (inside & (flat != 0)).sum(axis=1), _packed(inside),
            _packed(flat == self._colors[:, None, None]),
        )  # fmt: skip


def _packed(flags: npt.NDArray[np.bool_]) -> Bits:
    """(..., N) flags as (..., W) words."""
    octets = np.packbits(flags, axis=-1)
    spare = -octets.shape[-1] % 8
    if spare:
        octets = np.concatenate([octets, np.zeros((*octets.shape[:-1], spare), np.uint8)], axis=-1)
    return octets.view(np.uint64)


def _count(bits: Bits) -> npt.NDArray[np.int64]:
    """How many flags are set, over the last axis."""
    return np.asarray(np.bitwise_count(bits).sum(axis=-1, dtype=np.int64))
