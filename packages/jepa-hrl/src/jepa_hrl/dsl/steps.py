"""The steps of which synthetic programs consist: primitives from grid to grid, and idioms of several primitives."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arc_core.errors import ConfigError
from jepa_hrl.dsl.library import PRIMITIVES
from jepa_hrl.dsl.program import Call, Expression, Literal, PrimitiveName, TableLiteral
from jepa_hrl.dsl.types import Kind

Arguments = dict[str, object]  # as the manifest stores them: {}, {"color": 3} or {"table": {"1": 2}}


@dataclass(frozen=True)
class Step:
    """A step of a synthetic program: a function from grid to grid with arguments that are drawn for each task.

    Attributes:
        name: its name in configs, manifests and checkpoints.
        family: the family of primitives that it belongs to, such as `geometry`.
        draw: draws arguments for a task whose inputs have the given colours.
        apply: returns the program that applies the step, with its arguments, to another program's value.
    """

    name: str
    family: str
    draw: Callable[[np.random.Generator, list[int]], Arguments]
    apply: Callable[[Expression, Arguments], Expression]

    @property
    def is_plain(self) -> bool:
        """Whether it takes no arguments."""
        return self.draw is _draw_nothing

    @property
    def takes_color(self) -> bool:
        """Whether its argument is a colour."""
        return self.draw in (_draw_color, _draw_new_color)


def _draw_nothing(rng: np.random.Generator, colors: list[int]) -> Arguments:
    return {}


def _draw_color(rng: np.random.Generator, colors: list[int]) -> Arguments:
    return {"color": int(rng.choice(colors))}


def _draw_new_color(rng: np.random.Generator, colors: list[int]) -> Arguments:
    """Draws a colour that the inputs lack."""
    return {"color": int(rng.choice([c for c in range(1, 10) if c not in colors]))}


def _draw_table(rng: np.random.Generator, colors: list[int]) -> Arguments:
    """Draws another colour for each of one or more of the inputs' colours."""
    changed = rng.permutation(colors)[: int(rng.integers(1, len(colors) + 1))]
    return {"table": {str(int(c)): int(rng.choice([n for n in range(1, 10) if n != c])) for c in sorted(changed)}}


def _recolor(program: Expression, arguments: Arguments) -> Expression:
    table = arguments["table"]
    assert isinstance(table, dict)
    return Call("recolor", (TableLiteral(tuple(((int(old),), int(new)) for old, new in table.items())), program))


def _flood(program: Expression, arguments: Arguments) -> Expression:
    color = arguments["color"]
    assert isinstance(color, int)
    table = TableLiteral((((0, 1), color),))
    return Call("repaint", (table, program, Call("enclosed", (program,))))


def _call_with_color(name: str) -> Callable[[Expression, Arguments], Expression]:
    """Returns the `apply` of a step that is one primitive of a grid and a colour."""

    def apply(program: Expression, arguments: Arguments) -> Expression:
        color = arguments["color"]
        assert isinstance(color, int)
        return Call(name, (program, Literal(color, Kind.COLOR)))

    return apply


def _call(name: str) -> Callable[[Expression, Arguments], Expression]:
    """Returns the `apply` of a step that is one primitive of a grid."""
    return lambda program, arguments: Call(name, (program,))


def _call_on_object(name: str, pick: str, measure: str, objects: str) -> Callable[[Expression, Arguments], Expression]:
    """Returns the `apply` of a step that applies primitive `name` to the object that `pick` selects by a measure."""

    def apply(program: Expression, arguments: Arguments) -> Expression:
        selected = Call(pick, (PrimitiveName(measure, Kind.MEASURE), Call(objects, (program,))))
        return Call(name, (selected,))

    return apply


def _number_by_size(program: Expression, arguments: Arguments) -> Expression:
    ranks = Call("mark_rank", (PrimitiveName("size", Kind.MEASURE), Call("components", (program,))))
    return Call("as_colors", (ranks,))


def _mirror_each(program: Expression, arguments: Arguments) -> Expression:
    flip = PrimitiveName("flip_horizontal", Kind.FUNCTION)
    return Call("draw", (Call("each", (flip, Call("blobs_diagonal", (program,)))),))


# Primitives that make sense one after another on any drawn grid.
_PLAIN = (
    "flip_horizontal", "flip_vertical", "rotate_90", "rotate_180", "rotate_270", "transpose", "anti_transpose",
    "roll_up", "roll_down", "roll_left", "roll_right", "trim", "top_half", "bottom_half", "left_half", "right_half",
    "compress", "upscale_2", "upscale_3", "tile_across", "tile_down", "self_tile", "framed", "edges_repeated",
    "mirror_right", "mirror_left", "mirror_down", "mirror_up", "mirror_four", "rotated_four", "with_mirrored_across",
    "with_mirrored_down", "fall_up", "fall_down", "fall_left", "fall_right", "drop_down", "drop_left", "rays_up",
    "rays_down", "rays_left", "rays_right", "join_across", "join_down", "grow", "hollow", "fill_holes", "fill_boxes",
    "denoise", "keep_most_frequent", "keep_least_frequent", "exchange_two", "negative", "histogram", "palette_column",
)  # fmt: skip

_IDIOMS = (
    Step("recolor", "recolour", _draw_table, _recolor),
    Step("keep_color", "recolour", _draw_color, _call_with_color("keep_color")),
    Step("drop_color", "recolour", _draw_color, _call_with_color("drop_color")),
    Step("fill_black", "recolour", _draw_new_color, _call_with_color("fill_black")),
    Step("flood_fill", "filling", _draw_new_color, _flood),
    Step("connected_components", "selection", _draw_nothing, _number_by_size),
    Step("crop_largest", "selection", _draw_nothing, _call_on_object("crop", "pick_max", "size", "components")),
    Step("crop_smallest", "selection", _draw_nothing, _call_on_object("crop", "pick_min", "size", "components")),
    Step("keep_largest", "selection", _draw_nothing, _call_on_object("alone", "pick_max", "size", "components")),
    Step("remove_smallest", "selection", _draw_nothing, _call_on_object("without", "pick_min", "size", "components")),
    Step("mirror_each", "selection", _draw_nothing, _mirror_each),
)

STEPS = {name: Step(name, PRIMITIVES[name].family, _draw_nothing, _call(name)) for name in _PLAIN} | {
    step.name: step for step in _IDIOMS
}


def find_step(name: str) -> Step:
    """Returns the step of a name.

    Raises:
        ConfigError: there is no step of this name.
    """
    if name not in STEPS:
        raise ConfigError(f"{name!a} is not a step of synthetic programs; known: {', '.join(sorted(STEPS))}")
    return STEPS[name]
