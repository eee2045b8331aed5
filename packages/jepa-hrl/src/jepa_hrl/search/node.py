"""Nodes of the search: programs with their values."""

from dataclasses import dataclass

from jepa_hrl.dsl.program import Expression
from jepa_hrl.dsl.types import Kind, Value


@dataclass(frozen=True, slots=True)
class Node:
    """A program with its values on all inputs of a task.

    Attributes:
        program: the expression.
        kind: of its values.
        values: one for each input, those of the demonstrations first.
        cost: bits by which the search orders nodes: the description length, at the costs that the search was given.
        size: number of primitives in the program.
    """

    program: Expression
    kind: Kind
    values: tuple[Value, ...]
    cost: float
    size: int
