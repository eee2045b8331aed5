"""Features of how a value differs from the outputs that it is to become: what the step policy reads.

N pairs of a value's grid and the output of the same demonstration, on canvases of side S. F features of a value: each
is computed for the pair of every demonstration; the mean and the minimum over them are kept, and features of the
outputs alone are appended.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jepa_hrl.dsl.steps import STEPS
from jepa_hrl.dsl.types import Array, Refusal
from jepa_hrl.guidance.alignment import NUM_ALIGNMENTS, OUTSIDE, OutputAligner
from jepa_hrl.search.moves import STEP_NAMES, make_move

_HALVINGS = 5  # of a side that have a feature each

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Steps without arguments: whether a step leaves an output unchanged tells whether it may have been the last.
_PLAIN_MOVES = tuple(make_move(name) for name in STEP_NAMES if STEPS[name].is_plain)


class TargetFeatures:
    """Computes features of values relative to the outputs of some demonstrations."""

    def __init__(self, outputs: Sequence[Array]) -> None:
        self._aligners = [OutputAligner(output) for output in outputs]
        self._canvas, self._sizes = _stack_on_canvas(outputs, max(max(output.shape) for output in outputs))
        self._output_features = _idempotence_features(outputs)

    def features(self, values: Sequence[Sequence[Array]]) -> Floats:
        """Computes the (B, F) features of B values, each of which has a grid for every output, in their order."""
        grids = [grid for value in values for grid in value]
        shown = len(self._aligners)
        side = max(max(grid.shape) for grid in grids)
        canvas, sizes = _stack_on_canvas(grids, side)
        shares, aligned = self._align(grids, side)
        output_sizes = np.tile(self._sizes, (len(values), 1))
        before, after = _histograms(canvas), np.tile(_histograms(self._canvas), (len(values), 1))
        pairs = np.concatenate([
            _size_features(sizes, output_sizes), _color_features(before, after),
            shares.reshape(len(grids), -1), _context_features(canvas, aligned, before > 0),
        ], axis=1, dtype=np.float32).reshape(len(values), shown, -1)  # fmt: skip
        repeated = np.broadcast_to(self._output_features, (len(values), len(self._output_features)))
        return np.concatenate([pairs.mean(axis=1), pairs.min(axis=1), repeated], axis=1)

    def _align(self, grids: Sequence[Array], side: int) -> tuple[Floats, Array]:
        """Returns (N, 3, P) shares of equal cells in each alignment, and (N, S, S) outputs in their best alignments."""
        aligned = np.full((len(grids), side, side), OUTSIDE, dtype=np.uint8)
        shares = np.empty((len(grids), 3, NUM_ALIGNMENTS), dtype=np.float32)
        groups: dict[tuple[int, int, int], list[int]] = {}
        for index, grid in enumerate(grids):
            groups.setdefault((index % len(self._aligners), grid.shape[0], grid.shape[1]), []).append(index)
        for (output, height, width), indices in groups.items():
            values = np.stack([grids[index] for index in indices])
            shares[indices], aligned[indices, :height, :width] = self._aligners[output].agreement(values)
        return shares, aligned


def _idempotence_features(outputs: Sequence[Array]) -> Floats:
    """Returns, for each step, the share of outputs that it leaves unchanged and the share that it refuses."""
    counts = []
    for move in _PLAIN_MOVES:
        values = [move.apply(output) for output in outputs]
        unchanged = [isinstance(v, np.ndarray) and np.array_equal(v, o) for v, o in zip(values, outputs, strict=True)]
        counts += [sum(unchanged), sum(isinstance(value, Refusal) for value in values)]
    return np.array(counts, dtype=np.float32) / np.float32(len(outputs))


def _stack_on_canvas(grids: Sequence[Array], side: int) -> tuple[Array, Integers]:
    """Returns (N, S, S) grids in the upper left corner, OUTSIDE around them, and (N, 2) their sizes."""
    canvas = np.full((len(grids), side, side), OUTSIDE, dtype=np.uint8)
    for index, grid in enumerate(grids):
        canvas[index, : grid.shape[0], : grid.shape[1]] = grid
    return canvas, np.array([grid.shape for grid in grids])


def _histograms(canvas: Array) -> Integers:
    """Counts the (N, 10) cells of each colour."""
    codes = canvas.reshape(len(canvas), -1) + 256 * np.arange(len(canvas))[:, None]
    return np.bincount(codes.ravel(), minlength=256 * len(canvas)).reshape(len(canvas), 256)[:, :10]


def _size_features(value_sizes: Integers, output_sizes: Integers) -> Floats:
    """Describes how each side of the outputs follows from each side of the values; both arguments are (N, 2)."""
    features = [
        value_sizes[:, 0] == value_sizes[:, 1], output_sizes[:, 0] == output_sizes[:, 1],
        *(value_sizes.T / 30), *(output_sizes.T / 30),
    ]  # fmt: skip
    for value_axis, output_axis in ((0, 0), (1, 1), (0, 1), (1, 0)):
        old, new = value_sizes[:, value_axis], output_sizes[:, output_axis]
        rules = [new == old >> times for times in range(_HALVINGS)]
        rules += [new == 2 * old, new == 3 * old, new == old + 2, new == old - 2]
        other = ~np.logical_or.reduce(rules)
        features += [*rules, other & (new < old), other & (new > old), np.log2(new / old) / 3]
    return np.stack(features, axis=1).astype(np.float32)


def _color_features(before: Integers, after: Integers) -> Floats:
    """Describes which colours appear, vanish and stay, and how many cells they have.

    Args:
        before: (N, 10) cells of each colour in the values.
        after: (N, 10) cells of each colour in the outputs.
    """
    had, has = before > 0, after > 0
    new, lost = has & ~had, had & ~has
    cells, output_cells = before.sum(axis=1), after.sum(axis=1)
    colored, output_colored = before[:, 1:].sum(axis=1), after[:, 1:].sum(axis=1)
    num_colors = has[:, 1:].sum(axis=1)
    ranked = has[:, 1:] == (np.arange(9) < num_colors[:, None])
    features = [
        had[:, 1:].sum(axis=1) / 5, num_colors / 5, new[:, 1:].sum(axis=1) / 3, lost[:, 1:].sum(axis=1) / 3,
        new[:, 1:].any(axis=1), lost[:, 1:].any(axis=1), before[:, 0] / cells, after[:, 0] / output_cells, ~had[:, 0],
        ~has[:, 0], ranked.all(axis=1), (before == after).all(axis=1),
        (np.sort(before, axis=1) == np.sort(after, axis=1)).all(axis=1), (after * new).sum(axis=1) / output_cells,
        (before * lost).sum(axis=1) / cells, colored == output_colored,
        (2 * before[:, 1:] == after[:, 1:]).all(axis=1), before[:, 1:].max(axis=1) / np.maximum(colored, 1),
        after[:, 1:].max(axis=1) / np.maximum(output_colored, 1),
    ]  # fmt: skip
    return np.stack(features, axis=1).astype(np.float32)


def _context_features(canvas: Array, aligned: Array, palette: Flags) -> Floats:
    """Returns how often each state of the output's cell occurs with each neighbourhood of the value's cell.

    Args:
        canvas: (N, S, S) values.
        aligned: (N, S, S) outputs in their best alignment with the values.
        palette: (N, 10) colours of each value.
    """
    colored = (canvas != 0) & (canvas != OUTSIDE)
    output_colored = (aligned != 0) & (aligned != OUTSIDE)
    black = canvas == 0
    # Of the output's cell: 0 black, 1 coloured as the value's, 2 another colour of the value, 3 a new colour, 4 none.
    state = np.where(palette[np.arange(len(canvas))[:, None, None], np.minimum(aligned, 9)], 2, 3).astype(np.uint8)
    state[aligned == 0] = 0
    state[(aligned == canvas) & colored] = 1
    state[aligned == OUTSIDE] = 4
    sides = _count_neighbors(colored)
    equal = _count_equal_neighbors(canvas)
    left, right = _last_colors(canvas, 2), _last_colors(canvas[:, :, ::-1], 2)[:, :, ::-1]
    above, below = _last_colors(canvas, 1), _last_colors(canvas[:, ::-1], 1)[:, ::-1]
    seen = (left > 0) + 2 * (right > 0).view(np.uint8) + 4 * (above > 0).view(np.uint8) + 8 * (below > 0).view(np.uint8)
    between = ((left == right) & (left > 0)) * (1 + (left == aligned).view(np.uint8))
    between += ((above == below) & (above > 0)) * (3 + 3 * (above == aligned).view(np.uint8))
    between += 9 * (~_flood_from_border(canvas) & black).view(np.uint8)
    state10 = 10 * state
    features = [
        _shares(np.where(colored, 5 + equal, sides) + state10, 50, canvas)[:, :40],
        _shares(np.where(black, 18 * state + between, np.uint8(90)), 91, canvas)[:, :72],
        _shares(np.where(black, 16 * state + seen, np.uint8(80)), 81, canvas)[:, :64],
        _shares(5 * output_colored.view(np.uint8) + _count_neighbors(output_colored) + state10, 50, canvas)[:, :40],
    ]
    return np.concatenate(features, axis=1)


def _shares(codes: Array, num_codes: int, canvas: Array) -> Floats:
    """Returns the (N, num_codes) share of each code among a value's cells."""
    count = len(codes)
    inside = canvas != OUTSIDE
    flat = np.where(inside, codes, np.uint8(num_codes)) + (num_codes + 1) * np.arange(count)[:, None, None]
    counts = np.bincount(flat.ravel(), minlength=count * (num_codes + 1)).reshape(count, num_codes + 1)[:, :num_codes]
    return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float32)


def _count_neighbors(flags: Flags) -> Array:
    """Counts the flagged ones among the four neighbours of each cell: (N, S, S)."""
    padded = np.pad(flags, ((0, 0), (1, 1), (1, 1))).astype(np.uint8)
    return padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]


def _count_equal_neighbors(canvas: Array) -> Array:
    """Counts those of the four neighbours of each cell that have its own colour: (N, S, S)."""
    equal = np.zeros(canvas.shape, dtype=np.uint8)
    down, across = canvas[:, 1:] == canvas[:, :-1], canvas[:, :, 1:] == canvas[:, :, :-1]
    equal[:, 1:] += down
    equal[:, :-1] += down
    equal[:, :, 1:] += across
    equal[:, :, :-1] += across
    return equal


def _last_colors(canvas: Array, axis: int) -> Array:
    """Returns for each cell the last colour at or before it along an axis, 0 where there is none: (N, S, S)."""
    colored = (canvas != 0) & (canvas != OUTSIDE)
    position = np.arange(16, 16 * canvas.shape[axis] + 1, 16, dtype=np.uint16)
    keys = np.where(colored, (position if axis == 2 else position[:, None]) + canvas, np.uint16(0))
    return (np.maximum.accumulate(keys, axis=axis) & 15).astype(np.uint8)


def _flood_from_border(canvas: Array) -> Flags:
    """Marks the black cells that black cells connect to a value's border: (N, S, S)."""
    count, side = len(canvas), canvas.shape[1]
    open_cells = np.ones((count, side + 2, side + 2), dtype=bool)
    open_cells[:, 1:-1, 1:-1] = (canvas == 0) | (canvas == OUTSIDE)
    labels, _ = ndimage.label(open_cells.reshape(-1, side + 2))  # borders connect all canvases to one outside
    return np.asarray(labels == labels[0, 0]).reshape(open_cells.shape)[:, 1:-1, 1:-1]
