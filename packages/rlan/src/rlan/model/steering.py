"""SteeredAttention: each cell looks at the place of the test input that the demonstrations point it to.

B batch, H heads, S canvas side, L = S*S cells, D channels, F frequencies.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlan.config import ModelConfig

FREQUENCIES = 8
_LONGEST = 64.0  # cells; twice the largest grid, so that no two distances look alike
_GAIN = 4.0  # of a head that has settled on one relation, so that neighbours get little of its weight


def place_codes(coordinates: Tensor) -> Tensor:
    """(...) coordinates in cells to (..., 2F) cosines and sines; products of two codes depend on their distance."""
    exponents = torch.arange(FREQUENCIES, device=coordinates.device) / (FREQUENCIES - 1)
    angles = coordinates[..., None].float() * (math.pi * (2 / _LONGEST) ** exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class SteeredAttention(nn.Module):
    """Attention by place alone, under a relation between places that the context vector writes.

    For each head the context gives a 2 x 4 table: how much a cell's row and its column have to do with a source cell's
    row and column, each counted from the near and from the far edge of the test input. Reflections, turns and copies
    from a corner each have two entries of the table; what a task needs is learnt. Without it, cells must learn to
    find each other through colours and places mixed in one vector, which ten minutes of training did not achieve.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, self.heads = config.hidden_dim, config.num_heads
        self.relation = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, self.heads * 8))
        self.kernel = nn.Parameter(torch.full((self.heads, FREQUENCIES), _GAIN / FREQUENCIES))
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, features: Tensor, context: Tensor, sizes: Tensor, grid: Tensor) -> Tensor:
        """What every cell sees.

        Args:
            features: (B, S, S, D).
            context: (B, D).
            sizes: (B, 2) int64 height and width of the test input.
            grid: (B, S, S) bool, the cells of the test input; only they are looked at.
        Returns:
            (B, S, S, D).
        """
        batch, side, _, dim = features.shape
        query, key = self._queries_and_keys(context, sizes, side)
        value = self.value(features).view(batch, side * side, self.heads, -1).transpose(1, 2)
        seen = functional.scaled_dot_product_attention(
            query.to(value.dtype), key.to(value.dtype), value, attn_mask=grid.flatten(1)[:, None, None], scale=1.0
        )
        out: Tensor = self.out(seen.transpose(1, 2).reshape(batch, side, side, dim))
        return out

    def _queries_and_keys(self, context: Tensor, sizes: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """(B, H, L, 8F) each; a query is its cell's codes mixed by the relation and weighted by the kernel."""
        step = torch.arange(side, device=context.device)
        near = place_codes(step)  # (S, 2F)
        far = place_codes(sizes[..., None] - 1 - step)  # (B, 2, S, 2F)
        relation = self.relation(context).float().view(-1, self.heads, 2, 4)
        own = near * self.kernel.repeat(1, 2)[:, None]  # (H, S, 2F)
        rows, columns = torch.einsum("bhak,hsf->abhskf", relation, own)  # (B, H, S, 4, 2F) each
        query = (rows[:, :, :, None] + columns[:, :, None]).flatten(2, 3).flatten(-2)
        near = near.expand(len(sizes), -1, -1)
        along_rows = torch.cat([near, far[:, 0]], dim=-1)[:, :, None].expand(-1, -1, side, -1)
        along_columns = torch.cat([near, far[:, 1]], dim=-1)[:, None].expand(-1, side, -1, -1)
        key = torch.cat([along_rows, along_columns], dim=-1).flatten(1, 2)
        return query, key[:, None].expand(-1, self.heads, -1, -1)
