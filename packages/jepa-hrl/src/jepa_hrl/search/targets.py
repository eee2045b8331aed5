"""What a program must give: the outputs, and what must come before a last step that can be undone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, log2

import numpy as np

from jepa_hrl.dsl.library import PRIMITIVES
from jepa_hrl.dsl.primitives import geometry
from jepa_hrl.dsl.primitives.combining import on_ground_of
from jepa_hrl.dsl.program import INPUT, Call, Expression
from jepa_hrl.dsl.types import Array, Refusal, key_of
from jepa_hrl.search.node import Node

_SIZE_WEIGHT = 0.25  # of a doubled side, in shares of cells
_BIT_WEIGHT = 0.01


@dataclass(frozen=True, eq=False)
class Target:
    """Grids that a program may give for the demonstrations, and what is then done to them.

    Attributes:
        grids: for each demonstration.
        finish: makes the whole program of one that gives these grids.
        cost: bits that this adds.
        near: worth inferring tables and overlays for, not only meeting exactly.
    """

    grids: tuple[Array, ...]
    finish: Callable[[Expression], Expression]
    cost: float = 0.0
    near: bool = False


def likeness(node: Node, target: Target) -> float:
    """How near a node's grids are to a target's, at most 1: the share of right cells, less for sizes that differ.

    Where one grid is larger, its corner that is most like the other counts, so that what is to be cropped or repeated
    yet can be told to be right. The share is of the cells that are coloured in either grid, so that empty grids are
    like nothing.
    """
    pairs = zip(node.values, target.grids, strict=False)
    total = sum(_likeness(plane, wanted) for plane, wanted in pairs)  # type: ignore[misc, arg-type]
    return total / len(target.grids) - _BIT_WEIGHT * node.cost


def _likeness(plane: Array, wanted: Array) -> float:
    if plane.shape == wanted.shape:
        return _share(plane, wanted)
    unlike = _SIZE_WEIGHT * sum(abs(log2(side / other)) for side, other in zip(plane.shape, wanted.shape, strict=True))
    (tall, wide), (height, width) = plane.shape, wanted.shape
    if (tall - height) * (wide - width) < 0:
        return -unlike
    h, w = min(tall, height), min(wide, width)
    if (tall, wide) < (height, width):
        plane, wanted = wanted, plane
    best = _share(plane[:h, :w], wanted)
    if plane.shape[1] > w:
        best = max(best, _share(plane[:h, -w:], wanted))
    if plane.shape[0] > h:
        best = max(best, _share(plane[-h:, :w], wanted))
        if plane.shape[1] > w:
            best = max(best, _share(plane[-h:, -w:], wanted))
    return best - unlike


def _share(one: Array, other: Array) -> float:
    """Share of the cells coloured in either grid that are the same in both."""
    either = np.count_nonzero(one | other)
    return np.count_nonzero((one == other) & (one != 0)) / either if either else 0.0


Undo = Callable[[Array], Array | None]


def _half(axis: int, second: bool) -> Undo:
    def part(grid: Array) -> Array | None:
        middle = grid.shape[axis] // 2
        if grid.shape[axis] % 2:
            return None
        span = slice(middle, None) if second else slice(None, middle)
        return grid[span] if axis == 0 else grid[:, span]

    return part


def _part(down: int, across: int) -> Undo:
    def part(grid: Array) -> Array | None:
        if grid.shape[0] % down or grid.shape[1] % across:
            return None
        return grid[: grid.shape[0] // down, : grid.shape[1] // across]

    return part


def _every(step: int) -> Undo:
    return lambda grid: None if any(side % step for side in grid.shape) else grid[::step, ::step]


def _inside(grid: Array) -> Array | None:
    return grid[1:-1, 1:-1] if min(grid.shape) > 2 else None


# What might have been before each of these; whether it was is checked by doing it again.
_UNDO: dict[str, Undo] = {
    "mirror_right": _half(1, False), "mirror_left": _half(1, True), "mirror_down": _half(0, False),
    "mirror_up": _half(0, True), "mirror_four": _part(2, 2), "rotated_four": _part(2, 2),
    "upscale_2": _every(2), "upscale_3": _every(3), "tile_across": _part(1, 2), "tile_down": _part(2, 1),
    "tile_across_3": _part(1, 3), "tile_down_3": _part(3, 1), "framed": _inside, "edges_repeated": _inside,
}  # fmt: skip


_INVERSE: dict[str, Undo] = {
    "flip_horizontal": geometry.flip_horizontal, "flip_vertical": geometry.flip_vertical,
    "rotate_90": geometry.rotate_270, "rotate_180": geometry.rotate_180, "rotate_270": geometry.rotate_90,
    "transpose": geometry.transpose, "anti_transpose": geometry.anti_transpose,
    "roll_up": geometry.roll_down, "roll_down": geometry.roll_up, "roll_left": geometry.roll_right,
    "roll_right": geometry.roll_left,
}  # fmt: skip

_DEPTH = 3  # last steps that are undone one after another


def targets_for(
    outputs: Sequence[Array], inputs: Sequence[Array], undo_ground: bool, most_bits: float = inf
) -> list[Target]:
    """The outputs themselves, and what lies before last steps that give them, cheapest first of equal ones.

    Args:
        inputs: of the same demonstrations; more may follow.
        undo_ground: also what gives the outputs once the input's ground and black are exchanged.
        most_bits: that undone steps may add.
    """
    newest = [Target(tuple(outputs), lambda program: program, near=True)]
    if undo_ground:
        grids = tuple(on_ground_of(output, given) for output, given in zip(outputs, inputs, strict=False))
        newest.append(Target(grids, lambda program: Call("on_ground_of", (program, INPUT)), 1.0, near=True))
    found = {tuple(map(key_of, target.grids)): target for target in reversed(newest)}
    for depth in range(_DEPTH):
        steps = [before for whole in newest for before in _before(whole, depth, most_bits)]
        newest = []
        for target in sorted(steps, key=lambda target: target.cost):
            key = tuple(map(key_of, target.grids))
            if key not in found:
                found[key] = target
                newest.append(target)
    return sorted(found.values(), key=lambda target: target.cost)


def _before(whole: Target, depth: int, most_bits: float) -> list[Target]:
    """What one last step gives a target of."""
    found = []
    for name, undo in (_UNDO | _INVERSE).items():
        if whole.cost + PRIMITIVES[name].cost > most_bits:
            continue
        before = [undo(grid) for grid in whole.grids]
        known = tuple(np.ascontiguousarray(grid) for grid in before if grid is not None)
        if len(known) == len(before) and (name in _INVERSE or all(map(_gives(name), known, whole.grids))):
            near = depth == 0 and name in _UNDO
            found.append(Target(known, _then(name, whole.finish), whole.cost + PRIMITIVES[name].cost, near))
    return found


def _gives(name: str) -> Callable[[Array, Array], bool]:
    def check(before: Array, after: Array) -> bool:
        value = PRIMITIVES[name].apply(before)
        return not isinstance(value, Refusal) and np.array_equal(np.asarray(value), after)

    return check


def _then(name: str, finish: Callable[[Expression], Expression]) -> Callable[[Expression], Expression]:
    return lambda program: finish(Call(name, (program,)))
