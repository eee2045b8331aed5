"""Mirrored copies and completion of symmetries."""

import numpy as np

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.types import NOTHING, TOO_LARGE, UNEQUAL, Array, Grid, Refusal, fits


@primitive(3)
def mirror_right(grid: Grid) -> Grid | Refusal:
    """`grid` with its mirror image at the right.

    >>> text(mirror_right(grid("12")))
    '1221'
    """
    return np.concatenate([grid, grid[:, ::-1]], axis=1) if grid.shape[1] <= 15 else TOO_LARGE


@primitive(3)
def mirror_left(grid: Grid) -> Grid | Refusal:
    """`grid` with its mirror image at the left.

    >>> text(mirror_left(grid("12")))
    '2112'
    """
    return np.concatenate([grid[:, ::-1], grid], axis=1) if grid.shape[1] <= 15 else TOO_LARGE


@primitive(3)
def mirror_down(grid: Grid) -> Grid | Refusal:
    """`grid` with its mirror image below.

    >>> text(mirror_down(grid("1/2")))
    '1/2/2/1'
    """
    return np.concatenate([grid, grid[::-1]]) if len(grid) <= 15 else TOO_LARGE


@primitive(3)
def mirror_up(grid: Grid) -> Grid | Refusal:
    """`grid` with its mirror image above.

    >>> text(mirror_up(grid("1/2")))
    '2/1/1/2'
    """
    return np.concatenate([grid[::-1], grid]) if len(grid) <= 15 else TOO_LARGE


@primitive(4)
def rotated_four(grid: Grid) -> Grid | Refusal:
    """`grid` and its quarter turns as the four quarters, clockwise.

    >>> text(rotated_four(grid("12/34")))
    '1231/3442/2443/1321'
    """
    if grid.shape[0] != grid.shape[1]:
        return UNEQUAL
    if len(grid) > 15:
        return TOO_LARGE
    turned = grid.T[:, ::-1]
    above = np.concatenate([grid, turned], axis=1)
    below = np.concatenate([grid.T[::-1], grid[::-1, ::-1]], axis=1)
    return np.concatenate([above, below])


def _lay_over(top: Array, below: Array) -> Array:
    """Lays one grid on another, whose cells show where the top one is black."""
    return np.where(top == 0, below, top)


@primitive(4)
def with_mirrored_across(grid: Grid) -> Grid:
    """`grid` laid on its left-right mirror image.

    >>> text(with_mirrored_across(grid("120")))
    '121'
    """
    return _lay_over(grid, grid[:, ::-1])


@primitive(4)
def with_mirrored_down(grid: Grid) -> Grid:
    """`grid` laid on its top-bottom mirror image.

    >>> text(with_mirrored_down(grid("1/2/0")))
    '1/2/1'
    """
    return _lay_over(grid, grid[::-1])


@primitive(5)
def with_transposed(grid: Grid) -> Grid | Refusal:
    """`grid` laid on its mirror image at the main diagonal.

    >>> text(with_transposed(grid("12/00")))
    '12/20'
    """
    return _lay_over(grid, grid.T) if grid.shape[0] == grid.shape[1] else UNEQUAL


@primitive(4)
def with_turned(grid: Grid) -> Grid | Refusal:
    """`grid` laid on its three other quarter turns.

    >>> text(with_turned(grid("10/00")))
    '11/11'
    """
    if grid.shape[0] != grid.shape[1]:
        return UNEQUAL
    return _lay_over(_lay_over(grid, grid[::-1, ::-1]), _lay_over(grid.T[:, ::-1], grid.T[::-1]))


def _find_mirror_axis(grid: Array) -> int | None:
    """Returns twice the column of the mirror axis with most agreeing pairs of coloured cells and no disagreeing one."""
    wide = grid.shape[1]
    best_score, best_axis = 0, None
    for double in range(2, 2 * wide - 3):
        low, high = max(0, double - wide + 1), min(wide - 1, double)
        part = grid[:, low : high + 1]
        mirrored = part[:, ::-1]
        both = (part != 0) & (mirrored != 0)
        if (part != mirrored)[both].any():
            continue
        score = int(np.count_nonzero(both))
        if score > best_score:
            best_score, best_axis = score, double
    return best_axis


def _complete_symmetry(grid: Array) -> Array | None:
    """Fills black cells with their mirror images about the best left-right axis; None if there is no axis."""
    double = _find_mirror_axis(grid)
    if double is None:
        return None
    wide = grid.shape[1]
    low, high = max(0, double - wide + 1), min(wide - 1, double)
    out = grid.copy()
    part = out[:, low : high + 1]
    out[:, low : high + 1] = _lay_over(part, part[:, ::-1])
    return out


@primitive(5)
def complete_across(grid: Grid) -> Grid | Refusal:
    """`grid` with its best left-right symmetry completed where it is black.

    >>> text(complete_across(grid("012100/032000")))
    '012100/032300'
    """
    out = _complete_symmetry(grid)
    return NOTHING if out is None else out


@primitive(5)
def complete_down(grid: Grid) -> Grid | Refusal:
    """`grid` with its best top-bottom symmetry completed where it is black.

    >>> text(complete_down(grid("00/13/22/10/00")))
    '00/13/22/13/00'
    """
    out = _complete_symmetry(grid.T)
    return NOTHING if out is None else out.T


@primitive(5)
def complete_both(grid: Grid) -> Grid | Refusal:
    """`grid` with its best left-right and top-bottom symmetries completed where it is black.

    >>> text(complete_both(grid("0120/3443/0100")))
    '0120/3443/0120'
    """
    across = _complete_symmetry(grid)
    down = _complete_symmetry((grid if across is None else across).T)
    if down is None:
        return NOTHING if across is None else across
    return down.T


@primitive(6)
def mirror_four(grid: Grid) -> Grid | Refusal:
    """`grid` at the top left of its mirror images.

    >>> text(mirror_four(grid("12/34")))
    '1221/3443/3443/1221'
    """
    if not fits(2 * grid.shape[0], 2 * grid.shape[1]):
        return TOO_LARGE
    above = np.concatenate([grid, grid[:, ::-1]], axis=1)
    return np.concatenate([above, above[::-1]])
