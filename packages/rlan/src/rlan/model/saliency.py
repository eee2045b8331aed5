"""DSC, the dynamic saliency controller: clues found one after another.

B batch, K clues, S canvas side, D channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlan.config import ModelConfig

_TINY = 1e-6


class Clues(NamedTuple):
    """Where the model looks.

    Attributes:
        attention: (B, K, S, S), sums to 1 over the cells of the grid, 0 past it.
        centroids: (B, K, 2) expected row and column, in cells.
        entropy: (B, K) of the attention, in nats.
        stop_logits: (B, K).
        usage: (B, K) in 0..1, u_k = product over j < k of (1 - sigmoid(stop_j)).
    """

    attention: Tensor
    centroids: Tensor
    entropy: Tensor
    stop_logits: Tensor
    usage: Tensor


def clue_usage(stop_logits: Tensor) -> Tensor:
    """(B, K) probability that clue k is still reached, of (B, K) stop logits; the first is always used."""
    going_on = torch.sigmoid(-stop_logits[:, :-1]).cumprod(dim=1)
    return torch.cat([torch.ones_like(stop_logits[:, :1]), going_on], dim=1)


def attention_centroid(attention: Tensor) -> Tensor:
    """(..., 2) expected row and column of (..., S, S) attention, in cells."""
    step = torch.arange(attention.shape[-1], device=attention.device, dtype=attention.dtype)
    return torch.stack([attention.sum(-1) @ step, attention.sum(-2) @ step], dim=-1)


class DynamicSaliencyController(nn.Module):
    """K queries conditioned on the context; each finding is masked down before the next is sought.

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
        """The clues in (B, S, S, D) features given a (B, D) context, inside a (B, S, S) bool mask."""
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
        largest_entropy = inside.sum(1).float().log().clamp_min(1.0)  # a grid of one or two cells has none to speak of
        available = torch.zeros_like(scores[:, 0])  # log of what earlier clues have left of each cell
        attention, entropy, stops = [], [], []
        for clue in range(queries.shape[1]):
            weights = torch.softmax(scores[:, clue] + available, dim=-1)
            left = 1 - weights / weights.amax(dim=-1, keepdim=True)
            available = available + left.clamp_min(_TINY).log()
            spread = -(weights * weights.clamp_min(1e-20).log()).sum(-1)
            seen = torch.einsum("bl,bld->bd", weights.to(cells.dtype), cells)
            stops.append(self.stop(torch.cat([seen, (spread / largest_entropy)[:, None].to(seen.dtype)], -1))[:, 0])
            attention.append(weights)
            entropy.append(spread)
        maps = torch.stack(attention, 1).view(len(features), -1, side, side)
        stop_logits = torch.stack(stops, 1).float()
        return Clues(maps, attention_centroid(maps), torch.stack(entropy, 1), stop_logits, clue_usage(stop_logits))
