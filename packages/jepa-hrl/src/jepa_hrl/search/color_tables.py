"""Colour tables inferred from demonstrations: which of a value's cells become which colour.

K nodes, N cells of all demonstrations one after another. A field explains the outputs, given a base, if cells that
agree in both always have the same colour. That is asked of a few pairs of cells that agree in the base and differ in
the output: a field must tell every one of them apart. What passes is checked on all cells.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jepa_hrl.dsl.program import TableLiteral
from jepa_hrl.dsl.types import Array, Kind

_PAIRS = 64  # that a field is asked to tell apart, as bits of one number
_LONE_BITS = 2.0  # added for an entry that a single demonstration shows: it may be chance


@dataclass(frozen=True)
class Found:
    """A table that gives the outputs.

    Attributes:
        penalty: bits beyond its length, for entries with little evidence.
    """

    table: TableLiteral
    penalty: float


class Outputs:
    """The wanted cells.

    Attributes:
        cells: (N,) uint8.
        origin: (N,) which demonstration a cell is of.
        shapes: of the demonstrations' grids.
    """

    def __init__(self, grids: tuple[Array, ...], rng: np.random.Generator) -> None:
        self.cells = np.concatenate([grid.ravel() for grid in grids])
        self.origin = np.repeat(np.arange(len(grids)), [grid.size for grid in grids])
        self.shapes = tuple(grid.shape for grid in grids)
        self._rng = rng
        self._scratch = np.zeros(1 << 16, dtype=np.uint8)

    def conflicts(self, base: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """(2, 64) numbers of cells that agree in the base and differ in colour; a pair may stand there often.

        One cell of each pair has another colour than most cells of its base value; half of the others have the
        commonest, half another rare one where there is one.
        """
        codes = base.astype(np.int64) * 16 + self.cells
        counts = np.bincount(codes, minlength=256 * 16)
        common = counts.reshape(-1, 16).argmax(axis=1)
        rare = np.flatnonzero(self.cells != common[base])
        if not len(rare):
            return np.zeros((2, _PAIRS), dtype=np.int64)
        one = rare[np.resize(self._rng.permutation(len(rare)), _PAIRS)]
        usual = base[one].astype(np.int64) * 16 + common[base[one]]
        order = codes.argsort(kind="stable")
        first = np.cumsum(counts) - counts
        other = order[first[usual] + (self._rng.random(_PAIRS) * counts[usual]).astype(np.int64)]
        peer = self._rng.choice(rare, _PAIRS)
        differs = (base[peer] == base[one]) & (self.cells[peer] != self.cells[one])
        return np.stack([one, np.where(differs & (np.arange(_PAIRS) % 2 == 0), peer, other)])

    def table(self, *fields: npt.NDArray[np.uint8], keep: bool) -> Found | None:
        """The table from the fields' values to colours, if there is one.

        Args:
            fields: (N,) each.
            keep: leave out entries that keep the first field's value, which is then the result where there is none.
        """
        codes = fields[0].astype(np.int64)
        for field in fields[1:]:
            codes = codes << 8 | field
        if len(fields) < 3:
            small = codes.astype(np.uint16)
            self._scratch[small] = self.cells
            if not np.array_equal(self._scratch[small], self.cells):
                return None
        keys, first, where = np.unique(codes, return_index=True, return_inverse=True)
        colors = self.cells[first]
        if len(fields) > 2 and not np.array_equal(colors[where], self.cells):
            return None
        seen = np.zeros((len(keys), len(self.shapes)), dtype=bool)
        seen[where, self.origin] = True
        entries, penalty = [], 0.0
        for key, color, lone in zip(keys.tolist(), colors.tolist(), (seen.sum(axis=1) < 2).tolist(), strict=True):
            values = tuple(key >> 8 * place & 255 for place in reversed(range(len(fields))))
            if not keep or values[0] != color:
                entries.append((values, color))
                penalty += _LONE_BITS * (lone and len(self.shapes) > 1)
        return Found(TableLiteral(tuple(entries)), penalty)


def _told(cells: npt.NDArray[np.uint8], asked: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """(..., n) 64 bits each: which of the (2, 64 n) pairs of cells differ in the (..., N) values."""
    differ = cells[..., asked[0]] != cells[..., asked[1]]
    return np.ascontiguousarray(np.packbits(differ, axis=-1)).view(np.uint64)


class Fields:
    """Values of the outputs' shapes, and which pairs of conflicting cells of each base they tell apart."""

    def __init__(self, outputs: Outputs, most_bases: int, most: int) -> None:
        self._outputs, self._most_bases, self._most = outputs, most_bases, most
        self.nodes: list[int] = []
        self.cells = np.zeros((64, len(outputs.cells)), dtype=np.uint8)
        self.bases: list[int] = []  # places in `nodes`
        self._asked = np.zeros((2, 0), dtype=np.int64)
        self.told = np.zeros((64, most_bases), dtype=np.uint64)

    @property
    def full(self) -> bool:
        """Whether no more are kept."""
        return len(self.nodes) >= self._most

    def add(self, node: int, kind: Kind, cells: npt.NDArray[np.uint8]) -> int:
        """Takes one in; gives its place."""
        place = len(self.nodes)
        if place == len(self.cells):
            self.cells = np.concatenate([self.cells, np.zeros_like(self.cells)])
            self.told = np.concatenate([self.told, np.zeros_like(self.told)])
        self.nodes.append(node)
        self.cells[place] = cells
        if self.bases:
            self.told[place, : len(self.bases)] = _told(cells, self._asked)
        if len(self.bases) < self._most_bases and kind is Kind.GRID:
            asked = self._outputs.conflicts(cells)
            self.bases.append(place)
            self._asked = np.concatenate([self._asked, asked], axis=1)
            self.told[: place + 1, len(self.bases) - 1] = _told(self.cells[: place + 1], asked)[:, 0]
        return place

    def partners(self, place: int) -> list[tuple[int, int]]:
        """(base, field) places, one of them `place`, that may explain the outputs together."""
        every = np.uint64(0xFFFFFFFFFFFFFFFF)
        count = len(self.bases)
        pairs = [(self.bases[b], place) for b in np.flatnonzero(self.told[place, :count] == every).tolist()]
        if count and self.bases[-1] == place:
            told = self.told[: place + 1, count - 1]
            pairs += [(place, other) for other in np.flatnonzero(told == every).tolist()]
        return pairs

    def triples(self, place: int, most_bases: int) -> list[tuple[int, int, int]]:
        """(base, field, field) places, the last of them `place`, that may explain the outputs together."""
        every = np.uint64(0xFFFFFFFFFFFFFFFF)
        found = []
        for number, base in enumerate(self.bases[:most_bases]):
            told = self.told[:place, number]
            mine = self.told[place, number]
            if mine and mine != every:
                both = np.flatnonzero(((told | mine) == every) & (told != every))
                found += [(base, other, place) for other in both.tolist() if base not in (other, place)]
        return found
