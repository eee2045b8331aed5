"""Grounded actions: the steps of synthetic programs with their arguments filled in, one index each."""

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

RECOLOR = "recolor"  # the one step whose argument, a table of colours, is inferred from the goal rather than chosen
_COLORED = ("keep_color", "drop_color", "fill_black", "flood_fill")
ARGUMENT_FEATURES = 10 + 100  # a colour, and a table from old to new colours

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Action:
    """A step with its arguments.

    Attributes:
        step: name of the step.
        color: the step's colour; None for steps without one.
    """

    step: str
    color: int | None = None

    @property
    def name(self) -> str:
        """The action's name in files and tables."""
        return self.step if self.color is None else f"{self.step}_{self.color}"

    @property
    def arguments(self) -> Arguments:
        """The step's arguments in a program; none for `recolor`, whose table is inferred."""
        return {} if self.color is None else {"color": self.color}

    def extend(self, program: Expression, table: Mapping[int, int] | None = None) -> Expression:
        """Returns a program that applies this action to another program's value.

        Args:
            program: the other program.
            table: from old to new colours, which `recolor` needs.
        """
        if self.step == RECOLOR:
            entries = tuple(((old,), new) for old, new in sorted((table or {}).items()))
            return Call("recolor", (TableLiteral(entries), program))
        return find_step(self.step).apply(program, self.arguments)

    @cached_property
    def bits(self) -> float:
        """Description length in bits that the action adds to a program, its table of colours apart."""
        return self.extend(INPUT).cost

    @cached_property
    def run(self) -> Callable[[Array], object]:
        """The action as a function of a grid; `recolor` without its table changes nothing."""
        primitive, color = PRIMITIVES.get(self.step), self.color
        if primitive is not None and primitive.takes == (Kind.GRID,):
            return primitive.apply
        if primitive is not None and primitive.takes == (Kind.GRID, Kind.COLOR):
            return lambda grid: primitive.apply(grid, color)
        program = self.extend(INPUT)
        return lambda grid: evaluate(program, grid)


@dataclass(frozen=True)
class ActionSet:
    """The actions of an agent; an action's index is its position, and the index after the last one means to stop.

    Attributes:
        actions: in a fixed order.
    """

    actions: tuple[Action, ...]

    def __len__(self) -> int:
        """Returns the number of actions, without stopping."""
        return len(self.actions)

    @property
    def names(self) -> list[str]:
        """The names of all actions, in their order."""
        return [action.name for action in self.actions]

    @cached_property
    def indices(self) -> dict[str, int]:
        """The index of each action, by its name."""
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def recolor(self) -> int | None:
        """The index of `recolor`; None if it is not among the actions."""
        return self.indices.get(RECOLOR)

    def index_of(self, step: str, arguments: Arguments) -> int | None:
        """Returns the index of a trace's step; None if it is not among the actions."""
        color = arguments.get("color")
        return self.indices.get(Action(step, color if isinstance(color, int) else None).name)

    def outcome(self, index: int, grid: Array) -> Array | None:
        """Applies an action to a grid; None if the grid refuses it."""
        value = self.actions[index].run(grid)
        return np.ascontiguousarray(value, dtype=np.uint8) if isinstance(value, np.ndarray) else None

    def argument_features(self, index: int, table: Mapping[int, int] | None = None) -> Floats:
        """Encodes an action's arguments, (ARGUMENT_FEATURES,): a one-hot colour, then the entries of the table."""
        features = np.zeros(ARGUMENT_FEATURES, dtype=np.float32)
        color = self.actions[index].color
        if color is not None:
            features[color] = 1.0
        for old, new in (table or {}).items():
            features[10 + 10 * old + new] = 1.0
        return features


def make_action_set(steps: Sequence[str], max_actions: int) -> ActionSet:
    """Returns all grounded actions of some steps; a step with a colour gives nine.

    Raises:
        ConfigError: a step is not known, or there are more than `max_actions`.
    """
    actions: list[Action] = []
    for name in dict.fromkeys(steps):
        find_step(name)
        colors = range(1, 10) if name in _COLORED else (None,)
        actions += [Action(name, color) for color in colors]
    if not actions or len(actions) > max_actions:
        raise ConfigError(
            f"actions must name steps of 1 to {max_actions} actions, a colour counting nine times; got {len(actions)}"
        )
    return ActionSet(tuple(actions))


def infer_color_table(grids: Sequence[Array], goals: Sequence[Array]) -> dict[int, int] | None:
    """Infers the table from old to new colours that turns grids into goals.

    Returns:
        The colours that change; None if no table turns every grid into its goal, or if nothing changes.
    """
    if any(grid.shape != goal.shape for grid, goal in zip(grids, goals, strict=True)):
        return None
    cells = [10 * grid.ravel() + goal.ravel() for grid, goal in zip(grids, goals, strict=True)]
    codes = np.unique(np.concatenate(cells))
    old, new = codes // 10, codes % 10
    if len(np.unique(old)) < len(old):
        return None
    table = {int(before): int(after) for before, after in zip(old, new, strict=True) if before != after}
    return table or None


def apply_color_table(grid: Array, table: Mapping[int, int]) -> Array:
    """Replaces the colours of a grid by those that a table gives for them."""
    new_colors = np.arange(10, dtype=np.uint8)
    new_colors[list(table)] = list(table.values())
    return new_colors[grid]
