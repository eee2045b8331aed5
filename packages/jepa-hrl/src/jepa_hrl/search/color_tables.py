"""Colour tables inferred from demonstrations: which values of a cell stand for which colour of the output.

A table of two fields, a base and another, explains the outputs if cells that agree in both fields always have the same
output colour. To test this quickly, 64 pairs of cells are sampled for each base that agree in the base and differ in
the output: a field that completes the base must distinguish every pair. Fields that pass are checked on all cells.

Shapes: K fields, B bases among them, N cells of all demonstrations one after another.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jepa_hrl.dsl.program import TableLiteral
from jepa_hrl.dsl.types import Array, Kind

_NUM_PAIRS = 64  # sampled for a base; each is one bit of a uint64
_ALL_PAIRS = np.uint64(0xFFFFFFFFFFFFFFFF)
_LONE_ENTRY_BITS = 2.0  # penalty of an entry that only one demonstration shows: it may be chance


@dataclass(frozen=True)
class ColorTable:
    """A table that maps field values to the outputs' colours on all demonstrations.

    Attributes:
        literal: the table as an argument in a program.
        penalty: bits beyond the description length, for entries with little evidence.
    """

    literal: TableLiteral
    penalty: float


class TargetCells:
    """The cells of the grids that a program is to produce, all demonstrations one after another.

    Attributes:
        cells: (N,) uint8, their colours.
        demonstrations: (N,) the index of the demonstration that each cell is of.
        shapes: (H, W) of each demonstration's grid.
    """

    def __init__(self, grids: tuple[Array, ...], rng: np.random.Generator) -> None:
        self.cells = np.concatenate([grid.ravel() for grid in grids])
        self.demonstrations = np.repeat(np.arange(len(grids)), [grid.size for grid in grids])
        self.shapes = tuple(grid.shape for grid in grids)
        self._rng = rng
        self._scratch = np.zeros(1 << 16, dtype=np.uint8)

    def sample_conflicts(self, base: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Samples pairs of cells that agree in the base and differ in colour.

        One cell of each pair has another colour than most cells of its base value. The other one has the most common
        colour in half of the pairs, and another rare colour, where there is one, in the other half.

        Args:
            base: (N,) the values of the base field.
        Returns:
            (2, 64) indices of cells; pairs may repeat. Both rows are 0 if no cells conflict.
        """
        codes = base.astype(np.int64) * 16 + self.cells
        counts = np.bincount(codes, minlength=256 * 16)
        common = counts.reshape(-1, 16).argmax(axis=1)
        rare = np.flatnonzero(self.cells != common[base])
        if not len(rare):
            return np.zeros((2, _NUM_PAIRS), dtype=np.int64)
        one = rare[np.resize(self._rng.permutation(len(rare)), _NUM_PAIRS)]
        usual = base[one].astype(np.int64) * 16 + common[base[one]]
        order = codes.argsort(kind="stable")
        first = np.cumsum(counts) - counts
        other = order[first[usual] + (self._rng.random(_NUM_PAIRS) * counts[usual]).astype(np.int64)]
        peer = self._rng.choice(rare, _NUM_PAIRS)
        differs = (base[peer] == base[one]) & (self.cells[peer] != self.cells[one])
        return np.stack([one, np.where(differs & (np.arange(_NUM_PAIRS) % 2 == 0), peer, other)])

    def infer_table(self, *fields: npt.NDArray[np.uint8], keep: bool) -> ColorTable | None:
        """Infers the table from the fields' values to the colours of the cells.

        Args:
            fields: (N,) values of each field.
            keep: leave out entries that keep the first field's value; cells without an entry then keep it.
        Returns:
            The table, or None if cells with equal values have different colours.
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
        seen[where, self.demonstrations] = True
        entries, penalty = [], 0.0
        for key, color, lone in zip(keys.tolist(), colors.tolist(), (seen.sum(axis=1) < 2).tolist(), strict=True):
            values = tuple(key >> 8 * byte & 255 for byte in reversed(range(len(fields))))
            if not keep or values[0] != color:
                entries.append((values, color))
                penalty += _LONE_ENTRY_BITS * (lone and len(self.shapes) > 1)
        return ColorTable(TableLiteral(tuple(entries)), penalty)


def _compare_pairs(cells: npt.NDArray[np.uint8], pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """(..., B) uint64: sets a bit for each of the (2, 64 B) pairs of cells that differ in the (..., N) values."""
    differ = cells[..., pairs[0]] != cells[..., pairs[1]]
    return np.ascontiguousarray(np.packbits(differ, axis=-1)).view(np.uint64)


class FieldIndex:
    """Fields of the outputs' shapes, and which pairs of conflicting cells of each base they distinguish.

    Args:
        target: the cells that tables are to produce.
        max_bases: how many of the first grids serve as bases.
        max_fields: how many fields are kept.

    Attributes:
        nodes: the node of each field, as the caller numbers them.
        cells: (>= K, N) values of the fields.
        bases: positions of the bases among the fields.
        distinguished: (>= K, max_bases) uint64, the pairs of each base that each field distinguishes, as bits.
    """

    def __init__(self, target: TargetCells, max_bases: int, max_fields: int) -> None:
        self._target, self._max_bases, self._max_fields = target, max_bases, max_fields
        self.nodes: list[int] = []
        self.cells = np.zeros((64, len(target.cells)), dtype=np.uint8)
        self.bases: list[int] = []
        self._pairs = np.zeros((2, 0), dtype=np.int64)
        self.distinguished = np.zeros((64, max_bases), dtype=np.uint64)

    @property
    def is_full(self) -> bool:
        """Whether no further field is kept."""
        return len(self.nodes) >= self._max_fields

    def add(self, node: int, kind: Kind, cells: npt.NDArray[np.uint8]) -> int:
        """Adds a field and returns its position.

        Args:
            node: a number for the caller's use.
            kind: of the value; the first grids also become bases.
            cells: (N,) the values.
        """
        position = len(self.nodes)
        if position == len(self.cells):
            self.cells = np.concatenate([self.cells, np.zeros_like(self.cells)])
            self.distinguished = np.concatenate([self.distinguished, np.zeros_like(self.distinguished)])
        self.nodes.append(node)
        self.cells[position] = cells
        if self.bases:
            self.distinguished[position, : len(self.bases)] = _compare_pairs(cells, self._pairs)
        if len(self.bases) < self._max_bases and kind is Kind.GRID:
            pairs = self._target.sample_conflicts(cells)
            self.bases.append(position)
            self._pairs = np.concatenate([self._pairs, pairs], axis=1)
            column = _compare_pairs(self.cells[: position + 1], pairs)[:, 0]
            self.distinguished[: position + 1, len(self.bases) - 1] = column
        return position

    def find_pairs(self, position: int) -> list[tuple[int, int]]:
        """Returns positions (base, field), one of them `position`, that may explain the outputs together."""
        count = len(self.bases)
        completed = np.flatnonzero(self.distinguished[position, :count] == _ALL_PAIRS)
        pairs = [(self.bases[base], position) for base in completed.tolist()]
        if count and self.bases[-1] == position:
            column = self.distinguished[: position + 1, count - 1]
            pairs += [(position, other) for other in np.flatnonzero(column == _ALL_PAIRS).tolist()]
        return pairs

    def find_triples(self, position: int, max_bases: int) -> list[tuple[int, int, int]]:
        """Returns positions (base, field, `position`) that may explain the outputs only together.

        Args:
            position: of the newest field.
            max_bases: only the first bases are considered, which bounds the time.
        """
        triples = []
        for index, base in enumerate(self.bases[:max_bases]):
            earlier = self.distinguished[:position, index]
            newest = self.distinguished[position, index]
            if newest and newest != _ALL_PAIRS:
                complementary = np.flatnonzero(((earlier | newest) == _ALL_PAIRS) & (earlier != _ALL_PAIRS))
                triples += [
                    (base, other, position) for other in complementary.tolist() if base not in (other, position)
                ]
        return triples
