"""Inference of last steps: tables and overlays that produce the outputs from a value and the values before it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jepa_hrl.dsl.program import Call, Expression
from jepa_hrl.dsl.types import Kind
from jepa_hrl.search.color_tables import FieldIndex, TargetCells
from jepa_hrl.search.node import Node
from jepa_hrl.search.overlays import OverlayIndex
from jepa_hrl.search.targets import Target

PLANES = (Kind.GRID, Kind.MASK, Kind.FIELD)

_MAX_FIELDS = 1500
_MAX_BASES = 32
_MAX_LAYERS = 500
_MAX_TRIPLE_BASES = 2  # bases that are combined with two fields at once: the input and the next grid
_MAX_TRIPLES = 40  # tables of three fields that are tried for a new value


@dataclass(frozen=True)
class Proposal:
    """A program that produces a target's grids on every demonstration.

    Attributes:
        program: the program.
        penalty: bits beyond its description length.
    """

    program: Expression
    penalty: float = 0.0


class Inference:
    """Values seen so far that have a target's shapes, and the programs that combine them to the target.

    Attributes:
        target: the grids to produce.
        tables_tried: number of tables that were inferred and checked on all demonstrations.
    """

    def __init__(self, target: Target, rng: np.random.Generator) -> None:
        self.target, self.tables_tried = target, 0
        self._cells = TargetCells(target.grids, rng)
        self._fields = FieldIndex(self._cells, _MAX_BASES, _MAX_FIELDS)
        self._overlays = OverlayIndex(self._cells.cells, _MAX_LAYERS)
        self._nodes: list[Node] = []

    def propose(self, node: Node, max_bits: float) -> Iterator[Proposal]:
        """Adds a value and yields programs that produce the target from it, alone or with values added before.

        The program of the value itself is not among them.

        Args:
            node: the new value.
            max_bits: longer programs are left out.
        """
        cells = self._align_cells(node)
        if cells is None:
            return
        yield from self._propose_recoloring(node, cells)
        if node.kind is not Kind.FIELD:
            newest = len(self._nodes)
            for top, bottom in self._overlays.add(newest, cells):
                above = node if top == newest else self._nodes[top]
                below = node if bottom == newest else self._nodes[bottom]
                yield Proposal(Call("overlay", (above.program, below.program)))
        if self._fields.is_full:
            self._nodes.append(node)
            return
        position = self._fields.add(len(self._nodes), node.kind, cells)
        self._nodes.append(node)
        for base, other in self._fields.find_pairs(position):
            if self._total_bits(base, other) < max_bits:
                yield from self._propose_table("repaint", base, other)
        triples = self._fields.find_triples(position, _MAX_TRIPLE_BASES)
        for base, other, third in sorted(triples, key=lambda triple: self._total_bits(*triple))[:_MAX_TRIPLES]:
            if self._total_bits(base, other, third) < max_bits:
                yield from self._propose_table("repaint_2", base, other, third)

    def propose_alone(self, node: Node) -> Iterator[Proposal]:
        """Yields programs that produce the target from this value alone; the value is not added for later ones."""
        cells = self._align_cells(node)
        if cells is not None:
            yield from self._propose_recoloring(node, cells)

    def _align_cells(self, node: Node) -> npt.NDArray[np.uint8] | None:
        """(N,) puts the cells of a value in a row if it has the target's shapes; None for other values."""
        shapes = self._cells.shapes
        planes = node.values[: len(shapes)]
        if node.kind not in PLANES or any(p.shape != s for p, s in zip(planes, shapes, strict=True)):  # type: ignore[union-attr]
            return None
        return np.concatenate([plane.ravel() for plane in planes])  # type: ignore[union-attr]

    def _total_bits(self, *positions: int) -> float:
        return 4.0 + sum(self._node(position).cost for position in positions)

    def _node(self, position: int) -> Node:
        return self._nodes[self._fields.nodes[position]]

    def _propose_recoloring(self, node: Node, cells: npt.NDArray[np.uint8]) -> Iterator[Proposal]:
        """Tries a table from the value's own colours or numbers to the target's colours."""
        self.tables_tried += 1
        keep = node.kind is Kind.GRID
        table = self._cells.infer_table(cells, keep=keep)
        if table is not None and table.literal.entries:
            yield Proposal(Call("recolor" if keep else "paint", (table.literal, node.program)), table.penalty)

    def _propose_table(self, name: str, *positions: int) -> Iterator[Proposal]:
        """Tries a table of several fields, as the argument of primitive `name`."""
        self.tables_tried += 1
        table = self._cells.infer_table(*(self._fields.cells[position] for position in positions), keep=True)
        if table is not None:
            arguments = (table.literal, *(self._node(position).program for position in positions))
            yield Proposal(Call(name, arguments), table.penalty)
