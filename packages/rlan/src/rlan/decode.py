"""Logits to grids: the size is found first, as the likeliest rectangle, then each cell's colour.

B batch, S canvas side, C = 11 classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arc_core.grid import NUM_COLORS, Grid
from rlan.losses.objective import class_log_probabilities
from rlan.model.layers import extent_mask

_MOST_CERTAIN = 10.0  # one cell cannot outvote more than a few rows of others


@dataclass(frozen=True)
class Answers:
    """Decoded answers.

    Attributes:
        colors: (B, S, S) uint8, meaningful within the size.
        sizes: (B, 2) int64, each at least 1.
        confidence: (B,) float32 in 0..1, geometric mean of the probabilities of the answer's cells.
        touches: (B,) bool, the answer reaches the end of its canvas, which may cut it off.
    """

    colors: Tensor
    sizes: Tensor
    confidence: Tensor
    touches: Tensor

    def grids(self) -> list[Grid]:
        """One grid an answer, on the host."""
        colors, sizes = self.colors.cpu().numpy(), self.sizes.tolist()
        return [
            np.ascontiguousarray(canvas[:height, :width]) for canvas, (height, width) in zip(colors, sizes, strict=True)
        ]


def likeliest_sizes(inside: Tensor, live: Tensor) -> Tensor:
    """(B, 2) the rectangle whose cells being inside and all others outside is likeliest.

    Args:
        inside: (B, S, S) log odds that a cell is inside the answer. The log likelihood of a rectangle is a constant
            plus the sum of its log odds, so all rectangles are compared by one two-dimensional prefix sum.
        live: (B, 2) extent of the canvas; no rectangle is larger.
    """
    side = inside.shape[-1]
    allowed = extent_mask(live, side)
    precise = torch.float32 if inside.device.type == "mps" else torch.float64  # which mps does not have
    sums = inside.clamp(-_MOST_CERTAIN, _MOST_CERTAIN).to(precise).cumsum(-1).cumsum(-2)
    best = sums.masked_fill(~allowed, -torch.inf).flatten(1).argmax(1)
    return torch.stack([best // side, best % side], dim=1) + 1


def surest_step(logits: Tensor, live: Tensor, stablemax: bool) -> Tensor:
    """(B, S, S, 11) of (B, T, S, S, 11): each sample's step of lowest mean entropy over its live cells."""
    log_probabilities = class_log_probabilities(logits, stablemax)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(-1)  # (B, T, S, S)
    inside = extent_mask(live, logits.shape[2])[:, None]
    best = ((entropy * inside).sum((2, 3)) / inside.sum((2, 3))).argmin(1)
    return logits[torch.arange(len(logits), device=logits.device), best]


def decode(logits: Tensor, live: Tensor, stablemax: bool) -> Answers:
    """The answers that (B, S, S, 11) logits state within (B, 2) live extents.

    Args:
        stablemax: whether the logits were trained as stablemax, not softmax.
    """
    log_probabilities = class_log_probabilities(logits, stablemax)
    colors = log_probabilities[..., :NUM_COLORS]
    inside = torch.logsumexp(colors, dim=-1) - log_probabilities[..., NUM_COLORS]
    sizes = likeliest_sizes(inside, live)
    best, chosen = colors.max(dim=-1)
    cells = extent_mask(sizes, logits.shape[1])
    mean = (best * cells).sum((1, 2)) / cells.sum((1, 2))
    touches = ((sizes == live) & (live < 30)).any(dim=1)
    return Answers(chosen.to(torch.uint8), sizes, mean.exp().float(), touches)
