"""Augmentations of tokens that equal the tokens of augmented grids. B grids, N objects."""

from typing import NamedTuple

import torch
from torch import Tensor

from arc_core.grid import MAX_SIDE
from jepa_hrl.objects.tokens import BORDER, BOX, CENTER, COLORS, GROUND, PALETTE, SHAPE, SHAPE_SIDE, SIZE, SYMMETRY


class TokenBatch(NamedTuple):
    """Padded tokens.

    Attributes:
        objects: (B, N, OBJECT_FIELDS) float32, 0 where there is none.
        present: (B, N) bool.
        grids: (B, GRID_FIELDS) float32.
    """

    objects: Tensor
    present: Tensor
    grids: Tensor


def recolored(tokens: TokenBatch, names: Tensor) -> TokenBatch:
    """Colours renamed.

    Args:
        names: (B, 10) a permutation each: colour c becomes names[c].
    """
    old = names.argsort(dim=1)  # the new colour's old name
    objects, grids = tokens.objects.clone(), tokens.grids.clone()
    wide = old[:, None].expand(-1, objects.shape[1], -1)
    objects[..., COLORS] = objects[..., COLORS].gather(2, wide)
    for field in (PALETTE, GROUND):
        grids[:, field] = grids[:, field].gather(1, old)
    return TokenBatch(objects, tokens.present, grids)


def moved(tokens: TokenBatch, share: Tensor) -> TokenBatch:
    """All objects of a grid moved together by whole cells, none over the border.

    Args:
        share: (B, 2) in 0..1: where between as far up (left) and as far down (right) as there is room.
    """
    objects, present = tokens.objects.clone(), tokens.present[..., None]
    if objects.shape[1] == 0:
        return tokens
    first, after = objects[..., BOX].chunk(2, dim=2)
    size = tokens.grids[:, SIZE]
    least = -torch.where(present, first, 1.0).amin(dim=1)
    most = (size - torch.where(present, after, 0.0).amax(dim=1)).maximum(least)
    cells = ((least + share * (most - least)) * MAX_SIDE).round().clamp(least * MAX_SIDE, most * MAX_SIDE)
    step = torch.where(tokens.present.any(dim=1, keepdim=True), cells, 0.0)[:, None] / MAX_SIDE
    objects[..., BOX] += torch.cat([step, step], dim=2) * present
    objects[..., CENTER] += step * present
    first, after = objects[..., BOX].chunk(2, dim=2)
    near = 0.5 / MAX_SIDE
    touches = torch.cat([first < near, after > size[:, None] - near], dim=2)
    objects[..., BORDER] = (touches & present).to(objects.dtype)
    return TokenBatch(objects, tokens.present, tokens.grids)


def turned(tokens: TokenBatch, transpose: Tensor, up_down: Tensor, left_right: Tensor) -> TokenBatch:
    """Grids turned and mirrored: transposed first, then flipped.

    Args:
        transpose, up_down, left_right: (B,) bool each.
    """
    objects, grids = tokens.objects.clone(), tokens.grids.clone()
    shape = objects[..., SHAPE].reshape(*objects.shape[:2], SHAPE_SIDE, SHAPE_SIDE)
    swap = transpose[:, None, None]
    shape = torch.where(swap[..., None], shape.transpose(2, 3), shape)
    shape = torch.where(up_down[:, None, None, None], shape.flip(2), shape)
    shape = torch.where(left_right[:, None, None, None], shape.flip(3), shape)
    objects[..., SHAPE] = shape.flatten(2)
    box, center, border = objects[..., BOX], objects[..., CENTER], objects[..., BORDER]
    box = torch.where(swap, box[..., [1, 0, 3, 2]], box)
    center = torch.where(swap, center[..., [1, 0]], center)
    border = torch.where(swap, border[..., [1, 0, 3, 2]], border)
    flags = objects[..., SYMMETRY]
    flags = torch.where(swap, flags[..., [1, 0, 2, 3]], flags)
    objects[..., SYMMETRY] = torch.where((up_down ^ left_right)[:, None, None], flags[..., [0, 1, 3, 2]], flags)
    grids[:, SIZE] = torch.where(transpose[:, None], grids[:, SIZE].flip(1), grids[:, SIZE])
    size, present = grids[:, None, SIZE], tokens.present
    for axis, flip in enumerate((up_down, left_right)):
        here = flip[:, None] & present
        mirrored = size[..., axis, None] - box[..., [axis + 2, axis]]
        box[..., [axis, axis + 2]] = torch.where(here[..., None], mirrored, box[..., [axis, axis + 2]])
        center[..., axis] = torch.where(here, size[..., axis] - center[..., axis], center[..., axis])
        border = torch.where(here[..., None], _exchanged(border, axis), border)
    objects[..., BOX], objects[..., CENTER], objects[..., BORDER] = box, center, border
    return TokenBatch(objects, present, grids)


def _exchanged(border: Tensor, axis: int) -> Tensor:
    return border[..., [2, 1, 0, 3] if axis == 0 else [0, 3, 2, 1]]


def hidden(tokens: TokenBatch, keep: Tensor) -> TokenBatch:
    """Some objects left out.

    Args:
        keep: (B, N) bool.
    """
    present = tokens.present & keep
    return TokenBatch(tokens.objects * present[..., None], present, tokens.grids)
