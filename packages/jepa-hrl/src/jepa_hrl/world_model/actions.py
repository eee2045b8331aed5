"""Grounded actions: the steps of synthetic programs with their arguments filled in, one number each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from arc_core.errors import ConfigError
from jepa_hrl.dsl.library import PRIMITIVES
from jepa_hrl.dsl.program import INPUT, Call, Expression, TableLiteral, evaluate
from jepa_hrl.dsl.steps import Arguments, find_step
from jepa_hrl.dsl.types import Array, Kind

RECOLOR = "recolor"  # the one step whose argument, a table of colours, is inferred and not chosen
_COLORED = ("keep_color", "drop_color", "fill_black", "flood_fill")
ARGUMENT_FEATURES = 10 + 100  # a colour, and a table from old to new colours

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Action:
    """A step with its arguments.

    Attributes:
        step: its name.
        color: that it takes, None where it takes none.
    """

    step: str
    color: int | None = None

    @property
    def name(self) -> str:
        """In files and tables."""
        return self.step if self.color is None else f"{self.step}_{self.color}"

    @property
    def arguments(self) -> Arguments:
        """As programs have them; none for the step whose table is inferred."""
        return {} if self.color is None else {"color": self.color}

    def extend(self, program: Expression, table: Mapping[int, int] | None = None) -> Expression:
        """The program followed by this action.

        Args:
            table: from old to new colours, which `recolor` needs.
        """
        if self.step == RECOLOR:
            entries = tuple(((old,), new) for old, new in sorted((table or {}).items()))
            return Call("recolor", (TableLiteral(entries), program))
        return find_step(self.step).apply(program, self.arguments)

    @cached_property
    def bits(self) -> float:
        """What it adds to a program's description length, a table apart."""
        return self.extend(INPUT).cost

    @cached_property
    def run(self) -> Callable[[Array], object]:
        """The action on a grid; for `recolor` nothing is changed."""
        primitive, color = PRIMITIVES.get(self.step), self.color
        if primitive is not None and primitive.takes == (Kind.GRID,):
            return primitive.apply
        if primitive is not None and primitive.takes == (Kind.GRID, Kind.COLOR):
            return lambda grid: primitive.apply(grid, color)
        program = self.extend(INPUT)
        return lambda grid: evaluate(program, grid)


@dataclass(frozen=True)
class ActionSet:
    """What an agent may do, by number; the number after the last means to stop.

    Attributes:
        actions: in a fixed order.
    """

    actions: tuple[Action, ...]

    def __len__(self) -> int:
        """Actions, stopping not among them."""
        return len(self.actions)

    @property
    def names(self) -> list[str]:
        """Of all actions, in order."""
        return [action.name for action in self.actions]

    @cached_property
    def indices(self) -> dict[str, int]:
        """By name."""
        return {name: number for number, name in enumerate(self.names)}

    @cached_property
    def recolor(self) -> int | None:
        """The number of `recolor`, if it is among them."""
        return self.indices.get(RECOLOR)

    def index_of(self, step: str, arguments: Arguments) -> int | None:
        """The action that a step of a trace is, None if it is none of these."""
        color = arguments.get("color")
        return self.indices.get(Action(step, color if isinstance(color, int) else None).name)

    def outcome(self, number: int, grid: Array) -> Array | None:
        """What an action makes of a grid; None where it is refused."""
        value = self.actions[number].run(grid)
        return np.ascontiguousarray(value, dtype=np.uint8) if isinstance(value, np.ndarray) else None

    def argument_features(self, number: int, table: Mapping[int, int] | None = None) -> Floats:
        """(ARGUMENT_FEATURES,) an action's arguments as numbers in 0..1."""
        found = np.zeros(ARGUMENT_FEATURES, dtype=np.float32)
        color = self.actions[number].color
        if color is not None:
            found[color] = 1.0
        for old, new in (table or {}).items():
            found[10 + 10 * old + new] = 1.0
        return found


def make_action_set(steps: Sequence[str], most: int) -> ActionSet:
    """All grounded actions of some steps.

    Raises:
        ConfigError: a step is not known, or there are more actions than `most`.
    """
    actions: list[Action] = []
    for name in dict.fromkeys(steps):
        find_step(name)
        colors = range(1, 10) if name in _COLORED else (None,)
        actions += [Action(name, color) for color in colors]
    if not actions or len(actions) > most:
        raise ConfigError(
            f"actions must name steps of 1 to {most} actions, a colour counting nine times; got {len(actions)}"
        )
    return ActionSet(tuple(actions))


def infer_color_table(grids: Sequence[Array], wanted: Sequence[Array]) -> dict[int, int] | None:
    """The colours to rename that turn grids into others, cell by cell; None where no table does, or none is needed."""
    if any(one.shape != other.shape for one, other in zip(grids, wanted, strict=True)):
        return None
    cells = [10 * one.ravel() + other.ravel() for one, other in zip(grids, wanted, strict=True)]
    codes = np.unique(np.concatenate(cells))
    old, new = codes // 10, codes % 10
    if len(np.unique(old)) < len(old):
        return None
    table = {int(before): int(after) for before, after in zip(old, new, strict=True) if before != after}
    return table or None


def apply_color_table(grid: Array, table: Mapping[int, int]) -> Array:
    """The grid with colours renamed."""
    names = np.arange(10, dtype=np.uint8)
    names[list(table)] = list(table.values())
    return names[grid]
