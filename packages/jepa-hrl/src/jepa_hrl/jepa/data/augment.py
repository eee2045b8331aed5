"""Augmentations of tokens that equal the tokens of augmented grids. G grids, M objects of all grids."""

from typing import NamedTuple

import torch
from torch import Tensor

from arc_core.grid import MAX_SIDE
from jepa_hrl.objects.tokens import BORDER, BOX, CENTER, COLORS, GROUND, PALETTE, SHAPE, SHAPE_SIDE, SIZE, SYMMETRY


class Tokens(NamedTuple):
    """Tokens of grids.

    Attributes:
        objects: (M, OBJECT_FIELDS) float32, grid after grid.
        owners: (M,) which grid each object is of, ascending.
        grids: (G, GRID_FIELDS) float32.
    """

    objects: Tensor
    owners: Tensor
    grids: Tensor


def recolor(tokens: Tokens, names: Tensor) -> Tokens:
    """Colours renamed.

    Args:
        names: (G, 10) a permutation each: colour c becomes names[c].
    """
    old = names.argsort(dim=1)  # the new colour's old name
    objects, grids = tokens.objects.clone(), tokens.grids.clone()
    objects[:, COLORS] = objects[:, COLORS].gather(1, old[tokens.owners])
    for field in (PALETTE, GROUND):
        grids[:, field] = grids[:, field].gather(1, old)
    return Tokens(objects, tokens.owners, grids)


def translate(tokens: Tokens, share: Tensor) -> Tokens:
    """All objects of a grid moved together by whole cells, none over the border.

    Args:
        share: (G, 2) in 0..1: where between as far up (left) and as far down (right) as there is room.
    """
    objects, size = tokens.objects.clone(), tokens.grids[:, SIZE]
    first, after = objects[:, BOX].chunk(2, dim=1)
    owners = tokens.owners[:, None].expand_as(first)
    least = -torch.ones_like(size).scatter_reduce(0, owners, first, "amin")
    most = (size - torch.zeros_like(size).scatter_reduce(0, owners, after, "amax")).maximum(least)
    cells = ((least + share * (most - least)) * MAX_SIDE).round().clamp(least * MAX_SIDE, most * MAX_SIDE)
    step = cells[tokens.owners] / MAX_SIDE
    objects[:, BOX] += torch.cat([step, step], dim=1)
    objects[:, CENTER] += step
    first, after = objects[:, BOX].chunk(2, dim=1)
    near = 0.5 / MAX_SIDE
    objects[:, BORDER] = torch.cat([first < near, after > size[tokens.owners] - near], dim=1).to(objects.dtype)
    return Tokens(objects, tokens.owners, tokens.grids)


def rotate(tokens: Tokens, transpose: Tensor, up_down: Tensor, left_right: Tensor) -> Tokens:
    """Grids turned and mirrored: transposed first, then flipped.

    Args:
        transpose, up_down, left_right: (G,) bool each.
    """
    objects, grids, owners = tokens.objects.clone(), tokens.grids.clone(), tokens.owners
    swap, flips = transpose[owners, None], (up_down[owners, None], left_right[owners, None])
    shape = objects[:, SHAPE].reshape(-1, SHAPE_SIDE, SHAPE_SIDE)
    shape = torch.where(swap[..., None], shape.transpose(1, 2), shape)
    for axis, flip in enumerate(flips):
        shape = torch.where(flip[..., None], shape.flip(1 + axis), shape)
    objects[:, SHAPE] = shape.flatten(1)
    box, center, border = objects[:, BOX], objects[:, CENTER], objects[:, BORDER]
    box = torch.where(swap, box[:, [1, 0, 3, 2]], box)
    center = torch.where(swap, center[:, [1, 0]], center)
    border = torch.where(swap, border[:, [1, 0, 3, 2]], border)
    flags = objects[:, SYMMETRY]
    flags = torch.where(swap, flags[:, [1, 0, 2, 3]], flags)
    objects[:, SYMMETRY] = torch.where(flips[0] ^ flips[1], flags[:, [0, 1, 3, 2]], flags)
    grids[:, SIZE] = torch.where(transpose[:, None], grids[:, SIZE].flip(1), grids[:, SIZE])
    size = grids[owners, SIZE]
    for axis, flip in enumerate(flips):
        mirrored = size[:, axis, None] - box[:, [axis + 2, axis]]
        box[:, [axis, axis + 2]] = torch.where(flip, mirrored, box[:, [axis, axis + 2]])
        center[:, axis] = torch.where(flip[:, 0], size[:, axis] - center[:, axis], center[:, axis])
        border = torch.where(flip, _exchanged(border, axis), border)
    objects[:, BOX], objects[:, CENTER], objects[:, BORDER] = box, center, border
    return Tokens(objects, owners, grids)


def _exchanged(border: Tensor, axis: int) -> Tensor:
    return border[:, [2, 1, 0, 3] if axis == 0 else [0, 3, 2, 1]]


def mask(tokens: Tokens, keep: Tensor) -> Tokens:
    """Some objects left out.

    Args:
        keep: (M,) bool.
    """
    return Tokens(tokens.objects[keep], tokens.owners[keep], tokens.grids)
