"""How well a value and an output agree when the output is rotated, mirrored, cropped or shifted onto the value.

P = 64 alignments: the output under the eight elements of D4, each at the value's four corners and shifted from the
first corner by one cell in each direction, cyclically. Cells of the output beyond the value are cropped. Flags of cells
are packed into W words of 64 bits. G values of one size.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arc_core.augment import NUM_DIHEDRAL, dihedral
from jepa_hrl.dsl.types import Array

OUTSIDE = 255  # marks cells of a plane that no cell of the grid lies on
_SHIFTS = ((1, 0), (-1, 0), (0, 1), (0, -1))
_MAX_CACHED_SIZES = 100  # sizes of values whose alignments are cached, at most 0.4 MiB each
NUM_ALIGNMENTS = NUM_DIHEDRAL * (4 + len(_SHIFTS))

Bits = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class _AlignedOutput:
    """An output in every alignment with values of one size.

    Attributes:
        planes: (P, H, W) uint8 colours, OUTSIDE where the output does not reach.
        cells, colored: (P,) counts of the output's cells within the plane, and of the coloured ones among them.
        inside: (P, W) which cells of the plane the output covers.
        bits: (K, P, W) which cells have each of the output's K colours.
    """

    planes: Array
    cells: npt.NDArray[np.int64]
    colored: npt.NDArray[np.int64]
    inside: Bits
    bits: Bits


class OutputAligner:
    """Compares values with one output in all its alignments."""

    def __init__(self, output: Array) -> None:
        self._transformed = [dihedral(output, element) for element in range(NUM_DIHEDRAL)]
        self._colors = np.flatnonzero(np.bincount(output.ravel(), minlength=10)).astype(np.uint8)
        self._cache: dict[tuple[int, ...], _AlignedOutput] = {}  # by the values' size

    def agreement(self, values: Array) -> tuple[npt.NDArray[np.float32], Array]:
        """Compares values of one size with every alignment of the output.

        Args:
            values: (G, H, W) uint8 colours.
        Returns:
            shares: (G, 3, P) shares of equal cells: among all cells that overlap, among the value's coloured cells
                there, and among the output's coloured cells.
            planes: (G, H, W) the output in the alignment with the most equal cells, OUTSIDE where it does not reach.
        """
        shape = values.shape[1:]
        aligned = self._cache.get(shape)
        if aligned is None:
            if len(self._cache) == _MAX_CACHED_SIZES:
                self._cache.clear()
            aligned = self._cache[shape] = self._align(*shape)
        flat = values.reshape(len(values), 1, 1, -1)
        same = _count_bits(_pack_bits(flat == self._colors[:, None, None]) & aligned.bits)
        colored_same = same[:, self._colors != 0].sum(axis=1)
        colored = _count_bits(_pack_bits(flat[:, 0] != 0) & aligned.inside)
        shares = np.stack([
            same.sum(axis=1) / aligned.cells, colored_same / np.maximum(colored, 1),
            colored_same / np.maximum(aligned.colored, 1),
        ], axis=1, dtype=np.float32)  # fmt: skip
        return shares, aligned.planes[shares[:, 0].argmax(axis=1)]

    def _align(self, height: int, width: int) -> _AlignedOutput:
        """Lays the output onto values of one size in every alignment."""
        layers = np.full((NUM_DIHEDRAL, 4 + len(_SHIFTS), height, width), OUTSIDE, dtype=np.uint8)
        for layer, output in zip(layers, self._transformed, strict=True):
            tall, wide = min(height, output.shape[0]), min(width, output.shape[1])
            for corner in range(4):
                rows = slice(-tall, None) if corner & 1 else slice(tall)
                columns = slice(-wide, None) if corner & 2 else slice(wide)
                layer[corner, rows, columns] = output[rows, columns]
        for index, shift in enumerate(_SHIFTS, 4):
            layers[:, index] = np.roll(layers[:, 0], shift, (1, 2))
        planes = layers.reshape(NUM_ALIGNMENTS, height, width)
        flat = planes.reshape(NUM_ALIGNMENTS, -1)
        inside = flat != OUTSIDE
        return _AlignedOutput(
            planes, inside.sum(axis=1), (inside & (flat != 0)).sum(axis=1), _pack_bits(inside),
            _pack_bits(flat == self._colors[:, None, None]),
        )  # fmt: skip


def _pack_bits(flags: npt.NDArray[np.bool_]) -> Bits:
    """Packs (..., N) flags into (..., W) words."""
    octets = np.packbits(flags, axis=-1)
    spare = -octets.shape[-1] % 8
    if spare:
        octets = np.concatenate([octets, np.zeros((*octets.shape[:-1], spare), np.uint8)], axis=-1)
    return octets.view(np.uint64)


def _count_bits(bits: Bits) -> npt.NDArray[np.int64]:
    """Counts the set bits over the last axis."""
    return np.asarray(np.bitwise_count(bits).sum(axis=-1, dtype=np.int64))
