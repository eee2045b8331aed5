"""Hints about the size of the answer from the sizes of the demonstrations. B batch, N demonstrations, S canvas side."""

import torch
from torch import Tensor

from rlan.model.layers import extent_mask

NUM_HINTS = 2  # same size as an output, same scale as an output


def extent_hints(demo_sizes: Tensor, demo_mask: Tensor, query_size: Tensor, side: int) -> Tensor:
    """Returns for every cell the share of demonstrations that suggest that it lies inside the answer.

    Args:
        demo_sizes: (B, N, 2, 2) heights and widths of inputs and outputs.
        demo_mask: (B, N) bool, false for padding.
        query_size: (B, 2) height and width of the test input.
        side: S.
    Returns:
        (B, S, S, 2) in 0..1: if the answer had the size of the demonstration's output, and if it had the test input's
        size scaled as the demonstration scales its input.
    """
    source, target = demo_sizes[:, :, 0], demo_sizes[:, :, 1]  # (B, N, 2)
    scaled = (query_size[:, None] * target / source.clamp_min(1)).round().long()
    inside = torch.stack([extent_mask(target, side), extent_mask(scaled, side)], dim=-1).float()  # (B, N, S, S, 2)
    shown = demo_mask[:, :, None, None, None]
    return (inside * shown).sum(1) / shown.sum(1).clamp_min(1)
