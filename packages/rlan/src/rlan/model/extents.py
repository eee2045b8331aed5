"""What the demonstrations say about the size of the answer. B batch, N demonstrations, S canvas side."""

import torch
from torch import Tensor

from rlan.model.layers import extent_mask

HINTS = 2


def extent_hints(demo_sizes: Tensor, demo_mask: Tensor, query_size: Tensor, side: int) -> Tensor:
    """(B, S, S, 2) in 0..1: the share of demonstrations by which a cell would lie inside the answer, if the answer had
    the size of their output, and if it had the test input's size scaled as they scale theirs.

    Args:
        demo_sizes: (B, N, 2, 2) heights and widths of inputs and outputs.
        demo_mask: (B, N) bool.
        query_size: (B, 2) of the test input.
    """
    source, target = demo_sizes[:, :, 0], demo_sizes[:, :, 1]  # (B, N, 2)
    scaled = (query_size[:, None] * target / source.clamp_min(1)).round().long()
    inside = torch.stack([extent_mask(target, side), extent_mask(scaled, side)], dim=-1).float()  # (B, N, S, S, 2)
    shown = demo_mask[:, :, None, None, None]
    return (inside * shown).sum(1) / shown.sum(1).clamp_min(1)
