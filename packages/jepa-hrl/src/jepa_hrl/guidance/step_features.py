"""What can be seen of how a value is to become the outputs: what a guide of steps reads.

N pairs of a value's grid and the output wanted of it, on canvases of side S. F features of a value: each is read from
the pair of every demonstration that is looked at; their mean and least are kept, and what the outputs alone show.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jepa_hrl.dsl.steps import STEPS
from jepa_hrl.dsl.types import Array, Refusal
from jepa_hrl.guidance.alignment import COUNT, NOWHERE, Placements
from jepa_hrl.search.moves import STEP_NAMES, make_move

_HALVINGS = 5  # of a side, that are told apart

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

# Steps without arguments: whether they leave an output as it is tells whether they may have been the last.
_CLOSING = tuple(make_move(name) for name in STEP_NAMES if STEPS[name].is_plain)


class Wanted:
    """The outputs of the demonstrations that are looked at."""

    def __init__(self, outputs: Sequence[Array]) -> None:
        self._placements = [Placements(output) for output in outputs]
        self._canvas, self._sizes = _on_canvas(outputs, max(max(output.shape) for output in outputs))
        self._own = _closed(outputs)

    def features(self, values: Sequence[Sequence[Array]]) -> Floats:
        """(B, F) features of B values, each a grid for every output in turn."""
        grids = [grid for value in values for grid in value]
        shown = len(self._placements)
        side = max(max(grid.shape) for grid in grids)
        canvas, sizes = _on_canvas(grids, side)
        shares, laid = self._agreement(grids, side)
        wanted_sizes = np.tile(self._sizes, (len(values), 1))
        before, after = _histograms(canvas), np.tile(_histograms(self._canvas), (len(values), 1))
        pairs = np.concatenate([
            _size_features(sizes, wanted_sizes), _color_features(before, after),
            shares.reshape(len(grids), -1), _context_features(canvas, laid, before > 0),
        ], axis=1, dtype=np.float32).reshape(len(values), shown, -1)  # fmt: skip
        own = np.broadcast_to(self._own, (len(values), len(self._own)))
        return np.concatenate([pairs.mean(axis=1), pairs.min(axis=1), own], axis=1)

    def _agreement(self, grids: Sequence[Array], side: int) -> tuple[Floats, Array]:
        """(N, 3, P) shares of cells that agree, and (N, S, S) outputs in their best placements."""
        laid = np.full((len(grids), side, side), NOWHERE, dtype=np.uint8)
        shares = np.empty((len(grids), 3, COUNT), dtype=np.float32)
        groups: dict[tuple[int, int, int], list[int]] = {}
        for number, grid in enumerate(grids):
            groups.setdefault((number % len(self._placements), grid.shape[0], grid.shape[1]), []).append(number)
        for (shown, height, width), numbers in groups.items():
            values = np.stack([grids[number] for number in numbers])
            shares[numbers], laid[numbers, :height, :width] = self._placements[shown].agreement(values)
        return shares, laid


def _closed(outputs: Sequence[Array]) -> Floats:
    """For each step the share of outputs that it keeps as they are, and of those that it refuses."""
    found = []
    for move in _CLOSING:
        values = [move.apply(output) for output in outputs]
        kept = [isinstance(v, np.ndarray) and np.array_equal(v, o) for v, o in zip(values, outputs, strict=True)]
        found += [sum(kept), sum(isinstance(value, Refusal) for value in values)]
    return np.array(found, dtype=np.float32) / np.float32(len(outputs))


def _on_canvas(grids: Sequence[Array], side: int) -> tuple[Array, npt.NDArray[np.int64]]:
    """(N, S, S) grids in the upper left corner, NOWHERE around; (N, 2) their sizes."""
    canvas = np.full((len(grids), side, side), NOWHERE, dtype=np.uint8)
    for place, grid in enumerate(grids):
        canvas[place, : grid.shape[0], : grid.shape[1]] = grid
    return canvas, np.array([grid.shape for grid in grids])


def _histograms(canvas: Array) -> npt.NDArray[np.int64]:
    """(N, 10) cells of each colour."""
    codes = canvas.reshape(len(canvas), -1) + 256 * np.arange(len(canvas))[:, None]
    return np.bincount(codes.ravel(), minlength=256 * len(canvas)).reshape(len(canvas), 256)[:, :10]


def _size_features(given: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> Floats:
    """(N, ...) how sides of outputs follow from sides of values, the other side's included."""
    square = [given[:, 0] == given[:, 1], wanted[:, 0] == wanted[:, 1]]
    found = [*square, *(given.T / 30), *(wanted.T / 30)]
    for mine, theirs in ((0, 0), (1, 1), (0, 1), (1, 0)):
        old, new = given[:, mine], wanted[:, theirs]
        known = [new == old >> times for times in range(_HALVINGS)]
        known += [new == 2 * old, new == 3 * old, new == old + 2, new == old - 2]
        other = ~np.logical_or.reduce(known)
        found += [*known, other & (new < old), other & (new > old), np.log2(new / old) / 3]
    return np.stack(found, axis=1).astype(np.float32)


def _color_features(before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> Floats:
    """(N, ...) which colours come, go and stay, and how many cells they have."""
    had, has = before > 0, after > 0
    new, lost = has & ~had, had & ~has
    cells, wanted = before.sum(axis=1), after.sum(axis=1)
    colored, wanted_colored = before[:, 1:].sum(axis=1), after[:, 1:].sum(axis=1)
    number = has[:, 1:].sum(axis=1)
    ranked = has[:, 1:] == (np.arange(9) < number[:, None])
    found = [
        had[:, 1:].sum(axis=1) / 5, number / 5, new[:, 1:].sum(axis=1) / 3, lost[:, 1:].sum(axis=1) / 3,
        new[:, 1:].any(axis=1), lost[:, 1:].any(axis=1), before[:, 0] / cells, after[:, 0] / wanted, ~had[:, 0],
        ~has[:, 0], ranked.all(axis=1), (before == after).all(axis=1),
        (np.sort(before, axis=1) == np.sort(after, axis=1)).all(axis=1), (after * new).sum(axis=1) / wanted,
        (before * lost).sum(axis=1) / cells, colored == wanted_colored,
        (2 * before[:, 1:] == after[:, 1:]).all(axis=1), before[:, 1:].max(axis=1) / np.maximum(colored, 1),
        after[:, 1:].max(axis=1) / np.maximum(wanted_colored, 1),
    ]  # fmt: skip
    return np.stack(found, axis=1).astype(np.float32)


def _context_features(canvas: Array, laid: Array, palette: Flags) -> Floats:
    """(N, ...) what the outputs, in their best placement, have where values have what around them.

    Args:
        canvas, laid: (N, S, S) values, and outputs laid upon them.
        palette: (N, 10) colours of each value.
    """
    colored = (canvas != 0) & (canvas != NOWHERE)
    there = (laid != 0) & (laid != NOWHERE)
    black = canvas == 0
    state = np.where(palette[np.arange(len(canvas))[:, None, None], np.minimum(laid, 9)], 2, 3).astype(np.uint8)
    state[laid == 0] = 0
    state[(laid == canvas) & colored] = 1
    state[laid == NOWHERE] = 4
    sides = _beside(colored)
    equal = _equal_beside(canvas)
    left, right = _last_seen(canvas, 2), _last_seen(canvas[:, :, ::-1], 2)[:, :, ::-1]
    above, below = _last_seen(canvas, 1), _last_seen(canvas[:, ::-1], 1)[:, ::-1]
    seen = (left > 0) + 2 * (right > 0).view(np.uint8) + 4 * (above > 0).view(np.uint8) + 8 * (below > 0).view(np.uint8)
    between = ((left == right) & (left > 0)) * (1 + (left == laid).view(np.uint8))
    between += ((above == below) & (above > 0)) * (3 + 3 * (above == laid).view(np.uint8))
    between += 9 * (~_reached(canvas) & black).view(np.uint8)
    state10 = 10 * state
    found = [
        _shares(np.where(colored, 5 + equal, sides) + state10, 50, canvas)[:, :40],
        _shares(np.where(black, 18 * state + between, np.uint8(90)), 91, canvas)[:, :72],
        _shares(np.where(black, 16 * state + seen, np.uint8(80)), 81, canvas)[:, :64],
        _shares(5 * there.view(np.uint8) + _beside(there) + state10, 50, canvas)[:, :40],
    ]
    return np.concatenate(found, axis=1)


def _shares(codes: Array, kinds: int, canvas: Array) -> Floats:
    """(N, kinds) share of each code among a value's cells."""
    number = len(codes)
    inside = canvas != NOWHERE
    flat = np.where(inside, codes, np.uint8(kinds)) + (kinds + 1) * np.arange(number)[:, None, None]
    counts = np.bincount(flat.ravel(), minlength=number * (kinds + 1)).reshape(number, kinds + 1)[:, :kinds]
    return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float32)


def _beside(flags: Flags) -> Array:
    """(N, S, S) how many of a cell's four sides are flagged."""
    padded = np.pad(flags, ((0, 0), (1, 1), (1, 1))).astype(np.uint8)
    return padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]


def _equal_beside(canvas: Array) -> Array:
    """(N, S, S) how many of a cell's four sides have its own colour."""
    equal = np.zeros(canvas.shape, dtype=np.uint8)
    down, across = canvas[:, 1:] == canvas[:, :-1], canvas[:, :, 1:] == canvas[:, :, :-1]
    equal[:, 1:] += down
    equal[:, :-1] += down
    equal[:, :, 1:] += across
    equal[:, :, :-1] += across
    return equal


def _last_seen(canvas: Array, axis: int) -> Array:
    """(N, S, S) the last colour at a cell or before it along an axis, 0 if there is none."""
    colored = (canvas != 0) & (canvas != NOWHERE)
    place = np.arange(16, 16 * canvas.shape[axis] + 1, 16, dtype=np.uint16)
    keys = np.where(colored, (place if axis == 2 else place[:, None]) + canvas, np.uint16(0))
    return (np.maximum.accumulate(keys, axis=axis) & 15).astype(np.uint8)


def _reached(canvas: Array) -> Flags:
    """(N, S, S) whether a cell is black and joined to a value's border by black cells."""
    number, side = len(canvas), canvas.shape[1]
    open_cells = np.ones((number, side + 2, side + 2), dtype=bool)
    open_cells[:, 1:-1, 1:-1] = (canvas == 0) | (canvas == NOWHERE)
    labels, _ = ndimage.label(open_cells.reshape(-1, side + 2))  # borders join all canvases to one outside
    return np.asarray(labels == labels[0, 0]).reshape(open_cells.shape)[:, 1:-1, 1:-1]
