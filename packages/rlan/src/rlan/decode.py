"""Decodes logits into grids: first the size, as the likeliest rectangle, then the colour of each cell.

B batch, T solver steps, S canvas side, C = 11 classes (10 colours and outside).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arc_core.grid import MAX_SIDE, NUM_COLORS, Grid
from rlan.losses.objective import class_log_probabilities
from rlan.model.layers import extent_mask

_MAX_LOG_ODDS = 10.0  # of one cell, so that a single very certain cell cannot outvote a few rows of others


@dataclass(frozen=True)
class Answers:
    """A batch of decoded answers.

    Attributes:
        colors: (B, S, S) uint8, meaningful within the size.
        sizes: (B, 2) int64 heights and widths, each at least 1.
        confidence: (B,) float32 in 0..1, geometric mean of the probabilities of the answer's cells.
        touches_edge: (B,) bool, the answer reaches the edge of its extent, which may have cut it off.
    """

    colors: Tensor
    sizes: Tensor
    confidence: Tensor
    touches_edge: Tensor

    def to_grids(self) -> list[Grid]:
        """Copies each answer to the host as a grid of its own size."""
        colors, sizes = self.colors.cpu().numpy(), self.sizes.tolist()
        return [
            np.ascontiguousarray(canvas[:height, :width]) for canvas, (height, width) in zip(colors, sizes, strict=True)
        ]


def likeliest_sizes(inside: Tensor, answer_extent: Tensor) -> Tensor:
    """Returns the (B, 2) int64 size of the rectangle that is likeliest to be exactly the answer's cells.

    Args:
        inside: (B, S, S) log odds that a cell is inside the answer. The log likelihood of a rectangle is a constant
            plus the sum of its log odds, so all rectangles are compared by one two-dimensional prefix sum.
        answer_extent: (B, 2) largest height and width allowed.
    """
    side = inside.shape[-1]
    allowed = extent_mask(answer_extent, side)
    precise = torch.float32 if inside.device.type == "mps" else torch.float64  # mps has no float64
    sums = inside.clamp(-_MAX_LOG_ODDS, _MAX_LOG_ODDS).to(precise).cumsum(-1).cumsum(-2)
    best = sums.masked_fill(~allowed, -torch.inf).flatten(1).argmax(1)
    return torch.stack([best // side, best % side], dim=1) + 1


def lowest_entropy_step(logits: Tensor, answer_extent: Tensor, stablemax: bool) -> Tensor:
    """Returns the logits of the solver step whose answer has the lowest mean entropy, chosen for each sample.

    Args:
        logits: (B, T, S, S, C).
        answer_extent: (B, 2) area over whose cells the entropy is averaged.
        stablemax: the logits were trained as stablemax, not softmax.
    Returns:
        (B, S, S, C).
    """
    log_probabilities = class_log_probabilities(logits, stablemax)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(-1)  # (B, T, S, S)
    inside = extent_mask(answer_extent, logits.shape[2])[:, None]
    best_step = ((entropy * inside).sum((2, 3)) / inside.sum((2, 3))).argmin(1)
    return logits[torch.arange(len(logits), device=logits.device), best_step]


def decode(logits: Tensor, answer_extent: Tensor, stablemax: bool) -> Answers:
    """Decodes the logits of one solver step.

    Args:
        logits: (B, S, S, C).
        answer_extent: (B, 2) largest height and width of each answer.
        stablemax: the logits were trained as stablemax, not softmax.
    """
    log_probabilities = class_log_probabilities(logits, stablemax)
    colors = log_probabilities[..., :NUM_COLORS]
    inside = torch.logsumexp(colors, dim=-1) - log_probabilities[..., NUM_COLORS]
    sizes = likeliest_sizes(inside, answer_extent)
    best_log_probability, best_color = colors.max(dim=-1)
    cells = extent_mask(sizes, logits.shape[1])
    mean = (best_log_probability * cells).sum((1, 2)) / cells.sum((1, 2))
    touches_edge = ((sizes == answer_extent) & (answer_extent < MAX_SIDE)).any(dim=1)
    return Answers(best_color.to(torch.uint8), sizes, mean.exp().float(), touches_edge)
