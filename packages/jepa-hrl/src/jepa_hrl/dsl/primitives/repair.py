"""Patterns with damaged cells made whole. Black cells are the damaged ones."""

import numpy as np

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.types import NOTHING, Array, Grid, Refusal

_MAX_DAMAGE = 0.7  # of the cells; beyond it any pattern fits


def _merge_tiles(grid: Array, tall: int, wide: int) -> Array | None:
    """(tall, wide) the tile on which all coloured cells agree, 0 where it is unknown; None where they disagree."""
    height, width = grid.shape
    padded = np.zeros((-(-height // tall) * tall, -(-width // wide) * wide), dtype=np.uint8)
    padded[:height, :width] = grid
    stacked = padded.reshape(padded.shape[0] // tall, tall, padded.shape[1] // wide, wide)
    top = stacked.max(axis=(0, 2))
    bottom = np.where(stacked == 0, 255, stacked).min(axis=(0, 2))
    return top if ((bottom == top) | (top == 0)).all() else None


def _find_tile(grid: Array) -> Array | None:
    """Returns the smallest fully known tile whose repetition agrees with all coloured cells."""
    height, width = grid.shape
    sizes = [(tall, wide) for tall in range(1, height + 1) for wide in range(1, width + 1)]
    for tall, wide in sorted(sizes, key=lambda size: size[0] * size[1]):
        if 2 * tall * wide > height * width:
            return None
        tile = _merge_tiles(grid, tall, wide)
        if tile is not None and tile.all():
            return tile
    return None


@primitive(5)
def repair_tiling(grid: Grid) -> Grid | Refusal:
    """`grid` with its black cells filled so that one tile repeats over it.

    >>> text(repair_tiling(grid("1212/3430/1212")))
    '1212/3434/1212'
    """
    if not 0 < np.count_nonzero(grid == 0) < _MAX_DAMAGE * grid.size:
        return NOTHING
    tile = _find_tile(grid)
    if tile is None:
        return NOTHING
    rows, columns = np.arange(grid.shape[0]) % tile.shape[0], np.arange(grid.shape[1]) % tile.shape[1]
    return tile[rows[:, None], columns]


def _agreement(one: Array, other: Array) -> float:
    """Returns the share of equal cells among those coloured in both; 0 if at most a quarter of the cells is."""
    both = (one != 0) & (other != 0)
    compared = int(np.count_nonzero(both))
    return float(np.count_nonzero((one == other) & both)) / compared if compared > one.size // 4 else 0.0


def _find_mirror(grid: Array) -> tuple[int, int] | None:
    """Returns the columns, as (start, stop), of the widest part whose coloured cells are symmetric left to right."""
    wide = grid.shape[1]
    for lost in range(wide // 3 + 1):
        for low, high in {(lost, wide), (0, wide - lost)}:
            part = grid[:, low:high]
            if _agreement(part, part[:, ::-1]) == 1.0:
                return low, high
    return None


@primitive(5)
def repair_symmetry(grid: Grid) -> Grid | Refusal:
    """`grid` with its black cells filled from its mirror images, left to right, top to bottom and diagonal.

    >>> text(repair_symmetry(grid("1221/3403/1221")))
    '1221/3443/1221'
    """
    if not 0 < np.count_nonzero(grid == 0) < _MAX_DAMAGE * grid.size:
        return NOTHING
    across, down = _find_mirror(grid), _find_mirror(grid.T)
    diagonal = grid.shape[0] == grid.shape[1] and _agreement(grid, grid.T) == 1.0
    if across is None and down is None and not diagonal:
        return NOTHING
    out = grid.copy()
    for _ in range(2):  # what one mirror fills, another may carry on
        if across is not None:
            part = out[:, across[0] : across[1]]
            np.copyto(part, part[:, ::-1].copy(), where=part == 0)
        if down is not None:
            part = out[down[0] : down[1]]
            np.copyto(part, part[::-1].copy(), where=part == 0)
        if diagonal:
            np.copyto(out, out.T.copy(), where=out == 0)
    return out


@primitive(5)
def extend_rows(grid: Grid) -> Grid | Refusal:
    """`grid` with each row's pattern, as far as it goes, repeated over the row's black end.

    >>> text(extend_rows(grid("121000/000000")))
    '121212/000000'
    """
    out, wide = grid.copy(), grid.shape[1]
    changed = False
    for row in out:
        length = int(wide - (row[::-1] != 0).argmax()) if row.any() else 0  # of the row without its black end
        if 1 < length < wide:
            period = next(p for p in range(1, length + 1) if (row[p:length] == row[: length - p]).all())
            row[length:] = row[np.arange(length, wide) % period]
            changed = True
    return out if changed else NOTHING


@primitive(5)
def extend_columns(grid: Grid) -> Grid | Refusal:
    """`grid` with each column's pattern, as far as it goes, repeated over the column's black end.

    >>> text(extend_columns(grid("1/2/1/0")))
    '1/2/1/2'
    """
    out = extend_rows(grid.T)
    return out if isinstance(out, Refusal) else out.T


@primitive(6)
def extend_diagonals(grid: Grid) -> Grid | Refusal:
    """`grid` with each diagonal in the colour that stands on it and on the ones with which it repeats.

    >>> text(extend_diagonals(grid("123/230/300")))
    '123/231/312'
    """
    for sign in (1, -1):
        turned = grid if sign > 0 else grid[:, ::-1]
        index = np.add.outer(np.arange(grid.shape[0]), np.arange(grid.shape[1]))
        for period in range(2, sum(grid.shape) // 2 + 1):
            colors = np.zeros(period, dtype=np.uint8)
            colors[(index % period)[turned != 0]] = turned[turned != 0]
            painted = colors[index % period]
            if colors.all() and (painted == turned)[turned != 0].all():
                return painted if sign > 0 else painted[:, ::-1]
    return NOTHING
