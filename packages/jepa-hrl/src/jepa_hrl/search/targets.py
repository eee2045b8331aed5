"""Targets of the search: the outputs, and the grids from which invertible last steps produce the outputs."""

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

_SIZE_WEIGHT = 0.25  # similarity lost for a side of twice the length
_BIT_WEIGHT = 0.01  # similarity lost per bit of the program


@dataclass(frozen=True, eq=False)
class Target:
    """Grids that a program may produce for the demonstrations, and the last steps that make the outputs of them.

    Attributes:
        grids: one for each demonstration.
        finish: appends the last steps to a program that produces these grids.
        cost: bits of the last steps.
        infers: whether tables and overlays are inferred for it; otherwise values have to equal it.
    """

    grids: tuple[Array, ...]
    finish: Callable[[Expression], Expression]
    cost: float = 0.0
    infers: bool = False


def similarity(node: Node, target: Target) -> float:
    """Computes how similar a node's grids are to a target's, at most 1: the share of right cells less penalties.

    Sizes that differ and the program's length are penalised. If one grid is larger, its corner most similar to the
    other grid counts, so that a grid that has yet to be cropped or repeated scores well. The share is of the cells
    that are coloured in either grid, so that an empty grid is similar to none.
    """
    pairs = zip(node.values, target.grids, strict=False)
    total = sum(_similarity(plane, grid) for plane, grid in pairs)  # type: ignore[misc, arg-type]
    return total / len(target.grids) - _BIT_WEIGHT * node.cost


def _similarity(plane: Array, target: Array) -> float:
    if plane.shape == target.shape:
        return _share_equal(plane, target)
    sides = zip(plane.shape, target.shape, strict=True)
    size_penalty = _SIZE_WEIGHT * sum(abs(log2(side / other)) for side, other in sides)
    (tall, wide), (height, width) = plane.shape, target.shape
    if (tall - height) * (wide - width) < 0:
        return -size_penalty
    h, w = min(tall, height), min(wide, width)
    larger, smaller = (target, plane) if (tall, wide) < (height, width) else (plane, target)
    best = _share_equal(larger[:h, :w], smaller)
    if larger.shape[1] > w:
        best = max(best, _share_equal(larger[:h, -w:], smaller))
    if larger.shape[0] > h:
        best = max(best, _share_equal(larger[-h:, :w], smaller))
        if larger.shape[1] > w:
            best = max(best, _share_equal(larger[-h:, -w:], smaller))
    return best - size_penalty


def _share_equal(one: Array, other: Array) -> float:
    """Returns the share of equal cells among those that are coloured in either grid."""
    either = np.count_nonzero(one | other)
    return np.count_nonzero((one == other) & (one != 0)) / either if either else 0.0


Undo = Callable[[Array], Array | None]  # from a step's result to what it may have been applied to, if anything


def _take_half(axis: int, second: bool) -> Undo:
    def take(grid: Array) -> Array | None:
        middle = grid.shape[axis] // 2
        if grid.shape[axis] % 2:
            return None
        span = slice(middle, None) if second else slice(None, middle)
        return grid[span] if axis == 0 else grid[:, span]

    return take


def _take_tile(down: int, across: int) -> Undo:
    def take(grid: Array) -> Array | None:
        if grid.shape[0] % down or grid.shape[1] % across:
            return None
        return grid[: grid.shape[0] // down, : grid.shape[1] // across]

    return take


def _downsample(step: int) -> Undo:
    return lambda grid: None if any(side % step for side in grid.shape) else grid[::step, ::step]


def _strip_border(grid: Array) -> Array | None:
    return grid[1:-1, 1:-1] if min(grid.shape) > 2 else None


# Candidates for what each of these steps was applied to; they are checked by applying the step again.
_UNDO: dict[str, Undo] = {
    "mirror_right": _take_half(1, False), "mirror_left": _take_half(1, True), "mirror_down": _take_half(0, False),
    "mirror_up": _take_half(0, True), "mirror_four": _take_tile(2, 2), "rotated_four": _take_tile(2, 2),
    "upscale_2": _downsample(2), "upscale_3": _downsample(3), "tile_across": _take_tile(1, 2),
    "tile_down": _take_tile(2, 1), "tile_across_3": _take_tile(1, 3), "tile_down_3": _take_tile(3, 1),
    "framed": _strip_border, "edges_repeated": _strip_border,
}  # fmt: skip


# Bijections, whose results need no check.
_INVERSE: dict[str, Undo] = {
    "flip_horizontal": geometry.flip_horizontal, "flip_vertical": geometry.flip_vertical,
    "rotate_90": geometry.rotate_270, "rotate_180": geometry.rotate_180, "rotate_270": geometry.rotate_90,
    "transpose": geometry.transpose, "anti_transpose": geometry.anti_transpose,
    "roll_up": geometry.roll_down, "roll_down": geometry.roll_up, "roll_left": geometry.roll_right,
    "roll_right": geometry.roll_left,
}  # fmt: skip

_MAX_UNDONE = 3  # last steps that are undone one after another


def find_targets(
    outputs: Sequence[Array], inputs: Sequence[Array], undo_ground: bool, max_bits: float = inf
) -> list[Target]:
    """Finds the targets of a search: the outputs, and the grids before up to three invertible last steps.

    Args:
        outputs: (H, W) of each demonstration.
        inputs: of the same demonstrations; inputs of tests may follow.
        undo_ground: add the grids that become the outputs when black and the input's ground are exchanged.
        max_bits: that the undone steps may cost.
    Returns:
        Targets with different grids, in the order of their costs; of targets with equal grids the cheapest.
    """
    newest = [Target(tuple(outputs), lambda program: program, infers=True)]
    if undo_ground:
        grids = tuple(on_ground_of(output, given) for output, given in zip(outputs, inputs, strict=False))
        newest.append(Target(grids, lambda program: Call("on_ground_of", (program, INPUT)), 1.0, infers=True))
    targets = {tuple(map(key_of, target.grids)): target for target in reversed(newest)}
    for depth in range(_MAX_UNDONE):
        earlier = [target for later in newest for target in _undo_last_step(later, depth, max_bits)]
        newest = []
        for target in sorted(earlier, key=lambda target: target.cost):
            key = tuple(map(key_of, target.grids))
            if key not in targets:
                targets[key] = target
                newest.append(target)
    return sorted(targets.values(), key=lambda target: target.cost)


def _undo_last_step(target: Target, depth: int, max_bits: float) -> list[Target]:
    """Returns the targets from which one more last step produces a target at a depth of undone steps."""
    earlier = []
    for name, undo in (_UNDO | _INVERSE).items():
        if target.cost + PRIMITIVES[name].cost > max_bits:
            continue
        candidates = [undo(grid) for grid in target.grids]
        grids = tuple(np.ascontiguousarray(grid) for grid in candidates if grid is not None)
        if len(grids) == len(candidates) and (name in _INVERSE or all(map(_reproduces(name), grids, target.grids))):
            infers = depth == 0 and name in _UNDO
            finish = _append_step(name, target.finish)
            earlier.append(Target(grids, finish, target.cost + PRIMITIVES[name].cost, infers))
    return earlier


def _reproduces(name: str) -> Callable[[Array, Array], bool]:
    """Returns the check whether a primitive turns one grid into another."""

    def check(before: Array, after: Array) -> bool:
        value = PRIMITIVES[name].apply(before)
        return not isinstance(value, Refusal) and np.array_equal(np.asarray(value), after)

    return check


def _append_step(name: str, finish: Callable[[Expression], Expression]) -> Callable[[Expression], Expression]:
    return lambda program: finish(Call(name, (program,)))
