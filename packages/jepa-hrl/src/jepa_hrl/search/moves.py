"""The steps of synthetic programs as what a search may do to a grid next."""

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

# Tables are inferred from the outputs where a program ends, not guessed on the way.
STEP_NAMES = tuple(sorted(name for name, step in STEPS.items() if step.is_plain or step.takes_color))

# How likely a colour is beside one of which nothing speaks.
_LIKELY, _UNLIKELY = 6.0, 0.2

Colors = frozenset[int]  # 1..9, black is the ground


@dataclass(frozen=True, eq=False)
class Move:
    """A step with its arguments, to be applied as an operator is.

    Attributes:
        program: the step applied to the input.
        apply: the step's value for a grid.
    """

    step: Step
    arguments: Arguments
    program: Expression
    apply: Callable[[Array], Value | Refusal]

    gives = Kind.GRID

    @property
    def size(self) -> int:
        """Primitives that it applies."""
        return self.program.size

    @cached_property
    def names(self) -> list[str]:
        """Those primitives."""
        return names_in(self.program)

    def expression(self, given: Expression) -> Expression:
        """The program that applies it to another one's value."""
        return self.step.apply(given, self.arguments)


@cache
def make_move(name: str, color: int | None = None) -> Move:
    """A step with its argument."""
    step = STEPS[name]
    arguments: Arguments = {"color": color}
    program = step.apply(INPUT, arguments)
    plain = isinstance(program, Call) and program.arguments == (INPUT,)
    return Move(step, arguments, program, PRIMITIVES[name].apply if plain else lambda grid: evaluate(program, grid))


@dataclass(frozen=True)
class Moves:
    """What may be done to a value, likeliest first.

    Attributes:
        bits: -log2 of each move's probability.
        doubt: -log2 of the probability that the value lies on a way to the outputs at all.
    """

    moves: Sequence[Move]
    bits: npt.NDArray[np.float64]
    doubt: float


def rank_moves(bits: npt.NDArray[np.float64], doubt: float, had: Colors, wanted: Colors) -> Moves:
    """Every step with every argument that makes sense.

    Args:
        bits: -log2 of the probability of each of STEP_NAMES.
        had, wanted: the colours of the value and of the outputs.
    """
    moves, places, color_bits = _every_move(had, wanted)
    cost = bits[places] + color_bits
    order = cost.argsort(kind="stable").tolist()
    return Moves([moves[place] for place in order], cost[order], doubt)


@lru_cache(maxsize=4096)
def _every_move(had: Colors, wanted: Colors) -> tuple[list[Move], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Moves, the places of their steps, and -log2 of the probability of their colours."""
    moves: list[Move] = []
    places: list[int] = []
    color_bits: list[float] = []
    for place, name in enumerate(STEP_NAMES):
        weights: Mapping[int | None, float] = {None: 1.0} if STEPS[name].is_plain else _color_weights(name, had, wanted)
        moves += [make_move(name, color) for color in weights]
        places += [place] * len(weights)
        color_bits += [log2(sum(weights.values()) / weight) for weight in weights.values()]
    return moves, np.array(places), np.array(color_bits)


def _color_weights(name: str, had: Colors, wanted: Colors) -> dict[int | None, float]:
    """Colours that a step may be about: what it takes away the outputs should lack, what it brings they should have."""
    if name == "drop_color":
        return {c: 1.0 if c in wanted else _LIKELY for c in sorted(had)}
    if name == "keep_color":
        return {c: 1.0 if c in wanted else _UNLIKELY for c in sorted(had)}
    weights: dict[int | None, float] = {c: _UNLIKELY if c in had else _LIKELY for c in sorted(had | wanted)}
    unseen = [c for c in range(1, 10) if c not in weights]
    return weights | {unseen[-1]: 1.0} if unseen else weights  # of colours without a trace one is as good as another
