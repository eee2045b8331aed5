"""Scaling and tiling."""

import numpy as np

from arc_core.grid import most_common_color
from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.primitives.planes import add_border, colors_of
from jepa_hrl.dsl.types import NOTHING, TOO_LARGE, UNEQUAL, Array, Grid, Refusal, fits


def scale_up(grid: Array, tall: int, wide: int) -> Array | Refusal:
    """Makes each cell a block of `tall` x `wide` cells; refuses a result beyond 30 x 30.

    Args:
        grid: (H, W) colours 0..9.
        tall, wide: factors, 1 or more.
    """
    if not fits(grid.shape[0] * tall, grid.shape[1] * wide):
        return TOO_LARGE
    return grid.repeat(tall, axis=0).repeat(wide, axis=1)


def _tile(grid: Array, down: int, across: int) -> Array | Refusal:
    """Repeats a grid `down` times below and `across` times beside itself; refuses a result beyond 30 x 30."""
    if not fits(grid.shape[0] * down, grid.shape[1] * across):
        return TOO_LARGE
    return np.concatenate([np.concatenate([grid] * across, axis=1)] * down)


@primitive(4)
def upscale_2(grid: Grid) -> Grid | Refusal:
    """`grid` twice as large.

    >>> text(upscale_2(grid("12")))
    '1122/1122'
    """
    return scale_up(grid, 2, 2)


@primitive(4)
def upscale_3(grid: Grid) -> Grid | Refusal:
    """`grid` three times as large.

    >>> text(upscale_3(grid("1")))
    '111/111/111'
    """
    return scale_up(grid, 3, 3)


@primitive(6)
def widen_2(grid: Grid) -> Grid | Refusal:
    """`grid` twice as wide.

    >>> text(widen_2(grid("12")))
    '1122'
    """
    return scale_up(grid, 1, 2)


@primitive(6)
def heighten_2(grid: Grid) -> Grid | Refusal:
    """`grid` twice as tall.

    >>> text(heighten_2(grid("12")))
    '12/12'
    """
    return scale_up(grid, 2, 1)


@primitive(5)
def upscale_by_colors(grid: Grid) -> Grid | Refusal:
    """`grid` as many times as large as it has colours other than black.

    >>> text(upscale_by_colors(grid("12")))
    '1122/1122'
    """
    times = len(colors_of(grid))
    return scale_up(grid, times, times) if times > 1 else NOTHING


@primitive(5)
def upscale_by_cells(grid: Grid) -> Grid | Refusal:
    """`grid` as many times as large as it has coloured cells.

    >>> text(upscale_by_cells(grid("12")))
    '1122/1122'
    """
    times = int(np.count_nonzero(grid))
    return scale_up(grid, times, times) if times > 1 else NOTHING


@primitive(5)
def upscale_by_side(grid: Grid) -> Grid | Refusal:
    """`grid` as many times as large as it is tall and wide.

    >>> text(upscale_by_side(grid("12/34")))
    '1122/1122/3344/3344'
    """
    return scale_up(grid, *grid.shape)


def _block_size(grid: Array) -> tuple[int, int]:
    """Returns height and width of the largest equal blocks of one colour of which the grid consists."""
    rows = np.flatnonzero((grid[1:] != grid[:-1]).any(axis=1)) + 1
    columns = np.flatnonzero((grid[:, 1:] != grid[:, :-1]).any(axis=0)) + 1
    return int(np.gcd.reduce([len(grid), *rows])), int(np.gcd.reduce([grid.shape[1], *columns]))


@primitive(4)
def downscale(grid: Grid) -> Grid | Refusal:
    """`grid` with its equal blocks of one colour as single cells.

    >>> text(downscale(grid("1122/1122/3311/3311")))
    '12/31'
    """
    tall, wide = _block_size(grid)
    return grid[::tall, ::wide] if tall * wide > 1 else NOTHING


@primitive(4)
def tile_across(grid: Grid) -> Grid | Refusal:
    """`grid` twice, side by side.

    >>> text(tile_across(grid("12")))
    '1212'
    """
    return _tile(grid, 1, 2)


@primitive(4)
def tile_down(grid: Grid) -> Grid | Refusal:
    """`grid` twice, one below the other.

    >>> text(tile_down(grid("12")))
    '12/12'
    """
    return _tile(grid, 2, 1)


@primitive(5)
def tile_across_3(grid: Grid) -> Grid | Refusal:
    """`grid` three times, side by side.

    >>> text(tile_across_3(grid("12")))
    '121212'
    """
    return _tile(grid, 1, 3)


@primitive(5)
def tile_down_3(grid: Grid) -> Grid | Refusal:
    """`grid` three times, one below the other.

    >>> text(tile_down_3(grid("12")))
    '12/12/12'
    """
    return _tile(grid, 3, 1)


@primitive(5)
def tile_by_side(grid: Grid) -> Grid | Refusal:
    """`grid` repeated as many times down and across as it is tall and wide.

    >>> text(tile_by_side(grid("12/34")))
    '1212/3434/1212/3434'
    """
    return _tile(grid, *grid.shape)


@primitive(5)
def self_tile(grid: Grid) -> Grid | Refusal:
    """`grid` with itself in place of each coloured cell and black in place of each black one.

    >>> text(self_tile(grid("10/01")))
    '1000/0100/0010/0001'
    """
    if not fits(grid.shape[0] ** 2, grid.shape[1] ** 2):
        return TOO_LARGE
    return np.kron(grid != 0, grid)


@primitive(6)
def self_tile_black(grid: Grid) -> Grid | Refusal:
    """`grid` with itself in place of each black cell and black in place of each coloured one.

    >>> text(self_tile_black(grid("10/11")))
    '0010/0011/0000/0000'
    """
    if not fits(grid.shape[0] ** 2, grid.shape[1] ** 2):
        return TOO_LARGE
    return np.kron(grid == 0, grid)


@primitive(6)
def self_tile_common(grid: Grid) -> Grid | Refusal:
    """`grid` with itself in place of each cell of its most frequent colour and black in place of others.

    >>> text(self_tile_common(grid("12/22")))
    '0012/0022/1212/2222'
    """
    if not fits(grid.shape[0] ** 2, grid.shape[1] ** 2):
        return TOO_LARGE
    return np.kron(grid == most_common_color(grid), grid)


@primitive(6)
def put_in_cells(cells: Grid, grid: Grid) -> Grid | Refusal:
    """`grid` in place of each coloured cell of `cells`, black in place of the others.

    >>> text(put_in_cells(grid("10"), grid("23")))
    '2300'
    """
    if not fits(grid.shape[0] * cells.shape[0], grid.shape[1] * cells.shape[1]):
        return TOO_LARGE
    return np.kron(cells != 0, grid)


@primitive(6)
def scale_to(grid: Grid, like: Grid) -> Grid | Refusal:
    """`grid` scaled to the size of `like`.

    >>> text(scale_to(grid("12"), grid("3333/3333")))
    '1122/1122'
    """
    tall, wide = like.shape[0] // grid.shape[0], like.shape[1] // grid.shape[1]
    if (tall * grid.shape[0], wide * grid.shape[1]) != like.shape or tall * wide < 2:
        return UNEQUAL
    return scale_up(grid, tall, wide)


@primitive(6)
def framed(grid: Grid) -> Grid | Refusal:
    """`grid` with a black ring around it.

    >>> text(framed(grid("1")))
    '000/010/000'
    """
    if max(grid.shape) > 28:
        return TOO_LARGE
    return add_border(grid, 0)


@primitive(6)
def edges_repeated(grid: Grid) -> Grid | Refusal:
    """`grid` with its outermost cells repeated outward, the corners black.

    >>> text(edges_repeated(grid("12/34")))
    '0120/1122/3344/0340'
    """
    if max(grid.shape) > 28:
        return TOO_LARGE
    out = add_border(grid, 0)
    out[0, 1:-1], out[-1, 1:-1], out[1:-1, 0], out[1:-1, -1] = grid[0], grid[-1], grid[:, 0], grid[:, -1]
    return out
