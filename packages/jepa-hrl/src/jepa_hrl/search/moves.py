"""Moves: the steps of synthetic programs, with their arguments, as the actions of a search led by a policy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from math import log2

import numpy as np
import numpy.typing as npt

from jepa_hrl.dsl.library import PRIMITIVES
from jepa_hrl.dsl.program import INPUT, Call, Expression, evaluate, names_in
from jepa_hrl.dsl.steps import STEPS, Arguments, Step
from jepa_hrl.dsl.types import Array, Kind, Refusal, Value

# Steps with tables are left out: the search infers tables from the outputs as the last step.
STEP_NAMES = tuple(sorted(name for name, step in STEPS.items() if step.is_plain or step.takes_color))

# Weight of a colour that the step should be about, and of one that it should not; 1 without evidence.
_LIKELY, _UNLIKELY = 6.0, 0.2

Colors = frozenset[int]  # 1..9; black is the ground


@dataclass(frozen=True, eq=False)
class Move:
    """A step with its arguments, which the search applies like an `Operator`.

    Attributes:
        step: the step.
        arguments: its arguments.
        program: the step applied to the input.
        apply: the step as a function of a grid.
    """

    step: Step
    arguments: Arguments
    program: Expression
    apply: Callable[[Array], Value | Refusal]

    gives = Kind.GRID

    @property
    def size(self) -> int:
        """Number of primitives that it applies."""
        return self.program.size

    @cached_property
    def primitive_names(self) -> list[str]:
        """Names of the primitives that it applies."""
        return names_in(self.program)

    def expression(self, value: Expression) -> Expression:
        """Returns the program that applies the move to another program's value."""
        return self.step.apply(value, self.arguments)


@cache
def make_move(name: str, color: int | None = None) -> Move:
    """Makes the move of a step; `color` is the argument of a step that takes one."""
    step = STEPS[name]
    arguments: Arguments = {"color": color}
    program = step.apply(INPUT, arguments)
    plain = isinstance(program, Call) and program.arguments == (INPUT,)
    return Move(step, arguments, program, PRIMITIVES[name].apply if plain else lambda grid: evaluate(program, grid))


@dataclass(frozen=True)
class Moves:
    """The moves from a value, the most probable first.

    Attributes:
        moves: each move that may be applied.
        bits: -log2 of each move's probability, ascending.
        dead_end_bits: -log2 of the probability that the value lies on a path to the outputs at all.
    """

    moves: Sequence[Move]
    bits: npt.NDArray[np.float64]
    dead_end_bits: float


def rank_moves(
    bits: npt.NDArray[np.float64], dead_end_bits: float, value_colors: Colors, target_colors: Colors
) -> Moves:
    """Ranks every step with every sensible argument by its probability.

    Args:
        bits: (steps,) -log2 of the probability of each of STEP_NAMES.
        dead_end_bits: see `Moves`.
        value_colors: colours of the value.
        target_colors: colours of the outputs.
    """
    moves, step_indices, color_bits = _list_moves(value_colors, target_colors)
    cost = bits[step_indices] + color_bits
    order = cost.argsort(kind="stable").tolist()
    return Moves([moves[index] for index in order], cost[order], dead_end_bits)


@lru_cache(maxsize=4096)
def _list_moves(
    value_colors: Colors, target_colors: Colors
) -> tuple[list[Move], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Returns the moves, the indices of their steps, and -log2 of the probability of each move's colour."""
    moves: list[Move] = []
    step_indices: list[int] = []
    color_bits: list[float] = []
    for index, name in enumerate(STEP_NAMES):
        weights: Mapping[int | None, float] = {None: 1.0}
        if not STEPS[name].is_plain:
            weights = _color_weights(name, value_colors, target_colors)
        moves += [make_move(name, color) for color in weights]
        step_indices += [index] * len(weights)
        color_bits += [log2(sum(weights.values()) / weight) for weight in weights.values()]
    return moves, np.array(step_indices), np.array(color_bits)


def _color_weights(name: str, value_colors: Colors, target_colors: Colors) -> dict[int | None, float]:
    """Weighs the colours of a step: the outputs should lack the colours it removes and have those it adds."""
    if name == "drop_color":
        return {c: 1.0 if c in target_colors else _LIKELY for c in sorted(value_colors)}
    if name == "keep_color":
        return {c: 1.0 if c in target_colors else _UNLIKELY for c in sorted(value_colors)}
    weights: dict[int | None, float] = {
        c: _UNLIKELY if c in value_colors else _LIKELY for c in sorted(value_colors | target_colors)
    }
    unseen = [c for c in range(1, 10) if c not in weights]
    return weights | {unseen[-1]: 1.0} if unseen else weights  # unseen colours are alike, so that one stands for all
