"""What makes the outputs of a value: itself, a renaming of its colours, a table with other values, an overlay."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jepa_hrl.dsl.program import Call, Expression
from jepa_hrl.dsl.types import Kind
from jepa_hrl.search.color_tables import Fields, Outputs
from jepa_hrl.search.node import Node
from jepa_hrl.search.overlays import Layers
from jepa_hrl.search.targets import Target

PLANES = (Kind.GRID, Kind.MASK, Kind.FIELD)

_MOST_FIELDS = 1500
_MOST_BASES = 32
_MOST_LAYERS = 500
_TRIPLE_BASES = 2  # values that are looked at with two others at once: the input and the next
_MOST_TRIPLES = 40  # tables tried for a new value


@dataclass(frozen=True)
class Proposal:
    """A program that gives a target on every demonstration.

    Attributes:
        penalty: bits beyond its length.
    """

    program: Expression
    penalty: float = 0.0


class Inference:
    """Values seen so far that have a target's shapes, and what can be made of them.

    Attributes:
        tables: how many were inferred and checked on all demonstrations.
    """

    def __init__(self, target: Target, rng: np.random.Generator) -> None:
        self.target, self.tables = target, 0
        self._outputs = Outputs(target.grids, rng)
        self._fields = Fields(self._outputs, _MOST_BASES, _MOST_FIELDS)
        self._layers = Layers(self._outputs.cells, _MOST_LAYERS)
        self._nodes: list[Node] = []

    def proposals(self, node: Node, most_bits: float) -> Iterator[Proposal]:
        """What gives the target with this value's help, itself apart.

        Args:
            most_bits: programs longer than this are of no use.
        """
        cells = self._cells(node)
        if cells is None:
            return
        yield from self._single(node, cells)
        if node.kind is not Kind.FIELD:
            number = len(self._nodes)
            for top, bottom in self._layers.add(number, cells):
                above = node if top == number else self._nodes[top]
                below = node if bottom == number else self._nodes[bottom]
                yield Proposal(Call("overlay", (above.program, below.program)))
        if self._fields.full:
            self._nodes.append(node)
            return
        place = self._fields.add(len(self._nodes), node.kind, cells)
        self._nodes.append(node)
        for base, other in self._fields.partners(place):
            if self._bits(base, other) < most_bits:
                yield from self._table("repaint", base, other)
        chosen = sorted(self._fields.triples(place, _TRIPLE_BASES), key=lambda three: self._bits(*three))
        for base, other, third in chosen[:_MOST_TRIPLES]:
            if self._bits(base, other, third) < most_bits:
                yield from self._table("repaint_2", base, other, third)

    def alone(self, node: Node) -> Iterator[Proposal]:
        """What gives the target of this value without others; it is not kept for others either."""
        cells = self._cells(node)
        if cells is not None:
            yield from self._single(node, cells)

    def _cells(self, node: Node) -> npt.NDArray[np.uint8] | None:
        """(N,) the value's cells where it has the target's shapes."""
        shapes = self._outputs.shapes
        planes = node.values[: len(shapes)]
        if node.kind not in PLANES or any(p.shape != s for p, s in zip(planes, shapes, strict=True)):  # type: ignore[union-attr]
            return None
        return np.concatenate([plane.ravel() for plane in planes])  # type: ignore[union-attr]

    def _bits(self, *places: int) -> float:
        return 4.0 + sum(self._node(place).cost for place in places)

    def _node(self, place: int) -> Node:
        return self._nodes[self._fields.nodes[place]]

    def _single(self, node: Node, cells: npt.NDArray[np.uint8]) -> Iterator[Proposal]:
        self.tables += 1
        keep = node.kind is Kind.GRID
        found = self._outputs.table(cells, keep=keep)
        if found is not None and found.table.entries:
            yield Proposal(Call("recolor" if keep else "paint", (found.table, node.program)), found.penalty)

    def _table(self, name: str, *places: int) -> Iterator[Proposal]:
        self.tables += 1
        found = self._outputs.table(*(self._fields.cells[place] for place in places), keep=True)
        if found is not None:
            arguments = (found.table, *(self._node(place).program for place in places))
            yield Proposal(Call(name, arguments), found.penalty)
