"""Augmentations of tokens that equal the tokens of augmented grids. G grids, M objects of all grids."""

from typing import NamedTuple

import torch
from torch import Tensor

from arc_core.grid import MAX_SIDE
from jepa_hrl.jepa.model.packed_attention import GridSequences
from jepa_hrl.objects.tokens import BORDER, BOX, CENTER, COLORS, GROUND, PALETTE, SHAPE, SHAPE_SIDE, SIZE, SYMMETRY


class Tokens(NamedTuple):
    """Tokens of grids as tensors.

    Attributes:
        objects: (M, OBJECT_FIELDS) float32, grid after grid.
        owners: (M,) index of the grid that each object is of, ascending.
        grids: (G, GRID_FIELDS) float32.
        sequences: where they lie in the encoder's sequences.
    """

    objects: Tensor
    owners: Tensor
    grids: Tensor
    sequences: GridSequences


def recolor(tokens: Tokens, permutations: Tensor) -> Tokens:
    """Permutes the colours of grids.

    Args:
        tokens: of G grids.
        permutations: (G, 10) int64, one for each grid: colour c becomes permutations[c].
    """
    old_colors = permutations.argsort(dim=1)  # the inverse permutations
    objects, grids = tokens.objects.clone(), tokens.grids.clone()
    objects[:, COLORS] = objects[:, COLORS].gather(1, old_colors[tokens.owners])
    for field in (PALETTE, GROUND):
        grids[:, field] = grids[:, field].gather(1, old_colors)
    return tokens._replace(objects=objects, grids=grids)


def translate(tokens: Tokens, share: Tensor) -> Tokens:
    """Moves all objects of a grid together by whole cells, so that none crosses the border.

    Args:
        tokens: of G grids.
        share: (G, 2) in 0..1 for rows and columns: 0 moves as far up (left) as there is room, 1 as far down (right).
    """
    objects, size = tokens.objects.clone(), tokens.grids[:, SIZE]
    first, after = objects[:, BOX].chunk(2, dim=1)
    owners = tokens.owners[:, None].expand_as(first)
    min_shift = -torch.ones_like(size).scatter_reduce(0, owners, first, "amin")
    max_shift = (size - torch.zeros_like(size).scatter_reduce(0, owners, after, "amax")).maximum(min_shift)
    cells = ((min_shift + share * (max_shift - min_shift)) * MAX_SIDE).round()
    shift = cells.clamp(min_shift * MAX_SIDE, max_shift * MAX_SIDE)[tokens.owners] / MAX_SIDE
    objects[:, BOX] += torch.cat([shift, shift], dim=1)
    objects[:, CENTER] += shift
    first, after = objects[:, BOX].chunk(2, dim=1)
    half_cell = 0.5 / MAX_SIDE
    touches = torch.cat([first < half_cell, after > size[tokens.owners] - half_cell], dim=1)
    objects[:, BORDER] = touches.to(objects.dtype)
    return tokens._replace(objects=objects)


def rotate(tokens: Tokens, transpose: Tensor, up_down: Tensor, left_right: Tensor) -> Tokens:
    """Applies an element of D4 to each grid: transposes it first, then flips it.

    Args:
        tokens: of G grids.
        transpose: (G,) bool, which grids are transposed.
        up_down: (G,) bool, which grids are then flipped upside down.
        left_right: (G,) bool, which grids are then flipped from left to right.
    """
    objects, grids, owners = tokens.objects.clone(), tokens.grids.clone(), tokens.owners
    swap, flips = transpose[owners, None], (up_down[owners, None], left_right[owners, None])
    shape = objects[:, SHAPE].reshape(-1, SHAPE_SIDE, SHAPE_SIDE)
    shape = torch.where(swap[..., None], shape.transpose(1, 2), shape)
    for axis, flip in enumerate(flips):
        shape = torch.where(flip[..., None], shape.flip(1 + axis), shape)
    objects[:, SHAPE] = shape.flatten(1)
    box, center, border = objects[:, BOX], objects[:, CENTER], objects[:, BORDER]
    box = torch.where(swap, _pick(box, 1, 0, 3, 2), box)
    center = torch.where(swap, _pick(center, 1, 0), center)
    border = torch.where(swap, _pick(border, 1, 0, 3, 2), border)
    symmetry = objects[:, SYMMETRY]
    symmetry = torch.where(swap, _pick(symmetry, 1, 0, 2, 3), symmetry)
    objects[:, SYMMETRY] = torch.where(flips[0] ^ flips[1], _pick(symmetry, 0, 1, 3, 2), symmetry)
    grids[:, SIZE] = torch.where(transpose[:, None], grids[:, SIZE].flip(1), grids[:, SIZE])
    size = grids[owners, SIZE]
    for axis, flip in enumerate(flips):
        mirrored = size[:, axis, None] - _pick(box, axis + 2, axis)
        box[:, axis::2] = torch.where(flip, mirrored, box[:, axis::2])
        center[:, axis] = torch.where(flip[:, 0], size[:, axis] - center[:, axis], center[:, axis])
        border = torch.where(flip, _swap_borders(border, axis), border)
    objects[:, BOX], objects[:, CENTER], objects[:, BORDER] = box, center, border
    return tokens._replace(objects=objects, grids=grids)


def _swap_borders(border: Tensor, axis: int) -> Tensor:
    """Exchanges the flags of the top and bottom border (axis 0), or of the left and right one (axis 1)."""
    return _pick(border, *((2, 1, 0, 3) if axis == 0 else (0, 3, 2, 1)))


def _pick(fields: Tensor, *columns: int) -> Tensor:
    """Returns some columns of (n, fields); a list as an index would be copied to the device each time."""
    return torch.stack([fields[:, column] for column in columns], dim=1)
