"""DSC, the dynamic saliency controller: finds clues, spatial anchors of the test input, one after another.

B batch, K clues, S canvas side, D channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlan.config import ModelConfig

_EPSILON = 1e-6


class Clues(NamedTuple):
    """Spatial anchors of a batch.

    Attributes:
        attention: (B, K, S, S) attention map of each clue; sums to 1 over the cells of the grid, 0 past it.
        centroids: (B, K, 2) expected row and column of the attention, in cells.
        entropy: (B, K) entropy of the attention, in nats.
        stop_logits: (B, K) logits of stopping after each clue.
        usage: (B, K) in 0..1, u_k = product over j < k of (1 - sigmoid(stop_j)).
    """

    attention: Tensor
    centroids: Tensor
    entropy: Tensor
    stop_logits: Tensor
    usage: Tensor


def clue_usage(stop_logits: Tensor) -> Tensor:
    """Returns the (B, K) probability that each clue is reached, given (B, K) stop logits; the first always is."""
    reached = torch.sigmoid(-stop_logits[:, :-1]).cumprod(dim=1)
    return torch.cat([torch.ones_like(stop_logits[:, :1]), reached], dim=1)


def attention_centroid(attention: Tensor) -> Tensor:
    """Returns the (..., 2) expected row and column of (..., S, S) attention, in cells."""
    step = torch.arange(attention.shape[-1], device=attention.device, dtype=attention.dtype)
    return torch.stack([attention.sum(-1) @ step, attention.sum(-2) @ step], dim=-1)


class DynamicSaliencyController(nn.Module):
    """Attends to the grid with K queries conditioned on the context, one after another; each clue lowers the attention
    that later ones pay to its cells.

    Attention is the same in training as in evaluation: noise in training alone opened a generalisation gap.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.queries = nn.Parameter(torch.randn(config.max_clues, dim) * 0.5)
        self.from_context = nn.Linear(dim, dim) if config.use_context else None
        self.norm = nn.RMSNorm(dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.stop = nn.Sequential(nn.Linear(dim + 1, dim), nn.GELU(), nn.Linear(dim, 1))
        last = self.stop[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, config.stop_bias)

    def forward(self, features: Tensor, context: Tensor, mask: Tensor) -> Clues:
        """Finds the clues.

        Args:
            features: (B, S, S, D) features of the test input's cells.
            context: (B, D) context vector.
            mask: (B, S, S) bool, true on the cells of the test input.
        """
        side = features.shape[1]
        cells = self.norm(features.flatten(1, 2))  # (B, S*S, D)
        scale = cells.shape[-1] ** -0.5
        queries = self.queries.expand(len(cells), -1, -1)  # (B, K, D)
        if self.from_context is not None:
            queries = queries + self.from_context(context)[:, None]
        # Attention is small and sums over the grid, so it is computed in float32 under autocast too.
        scores = torch.einsum("bkd,bld->bkl", queries, self.key(cells)).float() * scale
        inside = mask.flatten(1)
        scores = scores.masked_fill(~inside[:, None], -torch.inf)
        max_entropy = inside.sum(1).float().log().clamp_min(1.0)  # on grids of one or two cells it is close to 0
        available = torch.zeros_like(scores[:, 0])  # log of the share of each cell that earlier clues leave
        attention, entropies, stops = [], [], []
        for clue in range(queries.shape[1]):
            weights = torch.softmax(scores[:, clue] + available, dim=-1)
            remaining = 1 - weights / weights.amax(dim=-1, keepdim=True)
            available = available + remaining.clamp_min(_EPSILON).log()
            entropy = -(weights * weights.clamp_min(1e-20).log()).sum(-1)
            attended = torch.einsum("bl,bld->bd", weights.to(cells.dtype), cells)
            stops.append(
                self.stop(torch.cat([attended, (entropy / max_entropy)[:, None].to(attended.dtype)], -1))[:, 0]
            )
            attention.append(weights)
            entropies.append(entropy)
        maps = torch.stack(attention, 1).view(len(features), -1, side, side)
        stop_logits = torch.stack(stops, 1).float()
        return Clues(maps, attention_centroid(maps), torch.stack(entropies, 1), stop_logits, clue_usage(stop_logits))
