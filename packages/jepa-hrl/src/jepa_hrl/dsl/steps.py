"""The steps that synthetic programs are made of: primitives from grid to grid, and idioms of several primitives."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arc_core.errors import ConfigError
from jepa_hrl.dsl.library import PRIMITIVES
from jepa_hrl.dsl.program import Call, Expression, Literal, Named, Renaming
from jepa_hrl.dsl.types import Kind

Arguments = dict[str, object]


@dataclass(frozen=True)
class Step:
    """A step of a synthetic program.

    Attributes:
        name: as it stands in configs and traces.
        family: what it is about.
        draw: arguments for a task with these colours.
        apply: the step applied to a program, with arguments.
    """

    name: str
    family: str
    draw: Callable[[np.random.Generator, list[int]], Arguments]
    apply: Callable[[Expression, Arguments], Expression]

    @property
    def is_plain(self) -> bool:
        """Whether it takes no arguments."""
        return self.draw is _none

    @property
    def takes_color(self) -> bool:
        """Whether its argument is a colour."""
        return self.draw in (_color, _new_color)


def _none(rng: np.random.Generator, colors: list[int]) -> Arguments:
    return {}


def _color(rng: np.random.Generator, colors: list[int]) -> Arguments:
    return {"color": int(rng.choice(colors))}


def _new_color(rng: np.random.Generator, colors: list[int]) -> Arguments:
    return {"color": int(rng.choice([c for c in range(1, 10) if c not in colors]))}


def _table(rng: np.random.Generator, colors: list[int]) -> Arguments:
    chosen = rng.permutation(colors)[: int(rng.integers(1, len(colors) + 1))]
    return {"table": {str(int(c)): int(rng.choice([n for n in range(1, 10) if n != c])) for c in sorted(chosen)}}


def _recolored(program: Expression, arguments: Arguments) -> Expression:
    table = arguments["table"]
    assert isinstance(table, dict)
    return Call("recolor", (Renaming(tuple(((int(old),), int(new)) for old, new in table.items())), program))


def _flooded(program: Expression, arguments: Arguments) -> Expression:
    color = arguments["color"]
    assert isinstance(color, int)
    table = Renaming((((0, 1), color),))
    return Call("repaint", (table, program, Call("enclosed", (program,))))


def _with_color(name: str) -> Callable[[Expression, Arguments], Expression]:
    def apply(program: Expression, arguments: Arguments) -> Expression:
        color = arguments["color"]
        assert isinstance(color, int)
        return Call(name, (program, Literal(color, Kind.COLOR)))

    return apply


def _plain(name: str) -> Callable[[Expression, Arguments], Expression]:
    return lambda program, arguments: Call(name, (program,))


def _of_object(name: str, pick: str, measure: str, objects: str) -> Callable[[Expression, Arguments], Expression]:
    def apply(program: Expression, arguments: Arguments) -> Expression:
        chosen = Call(pick, (Named(measure, Kind.MEASURE), Call(objects, (program,))))
        return Call(name, (chosen,))

    return apply


def _ranked(program: Expression, arguments: Arguments) -> Expression:
    marked = Call("mark_rank", (Named("size", Kind.MEASURE), Call("components", (program,))))
    return Call("as_colors", (marked,))


def _mirrored_each(program: Expression, arguments: Arguments) -> Expression:
    flipped = Named("flip_horizontal", Kind.FUNCTION)
    return Call("draw", (Call("each", (flipped, Call("blobs_diagonal", (program,)))),))


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
    Step("recolor", "recolour", _table, _recolored),
    Step("keep_color", "recolour", _color, _with_color("keep_color")),
    Step("drop_color", "recolour", _color, _with_color("drop_color")),
    Step("fill_black", "recolour", _new_color, _with_color("fill_black")),
    Step("flood_fill", "filling", _new_color, _flooded),
    Step("connected_components", "selection", _none, _ranked),
    Step("crop_largest", "selection", _none, _of_object("crop", "pick_max", "size", "components")),
    Step("crop_smallest", "selection", _none, _of_object("crop", "pick_min", "size", "components")),
    Step("keep_largest", "selection", _none, _of_object("alone", "pick_max", "size", "components")),
    Step("remove_smallest", "selection", _none, _of_object("without", "pick_min", "size", "components")),
    Step("mirror_each", "selection", _none, _mirrored_each),
)

STEPS = {name: Step(name, PRIMITIVES[name].family, _none, _plain(name)) for name in _PLAIN} | {
    step.name: step for step in _IDIOMS
}


def find_step(name: str) -> Step:
    """The step of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in STEPS:
        raise ConfigError(f"{name!a} is not a step of synthetic programs; known: {', '.join(sorted(STEPS))}")
    return STEPS[name]
