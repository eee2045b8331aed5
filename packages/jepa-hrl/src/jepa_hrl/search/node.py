"""What the search holds."""

from dataclasses import dataclass

from jepa_hrl.dsl.program import Expression
from jepa_hrl.dsl.types import Kind, Value


@dataclass(frozen=True, slots=True)
class Node:
    """A program and its values on all inputs, demonstrations first."""

    program: Expression
    kind: Kind
    values: tuple[Value, ...]
    cost: float
    size: int
