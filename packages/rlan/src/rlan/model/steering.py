"""SteeredAttention: each cell attends to the position of the test input that the demonstrations suggest for it.

B batch, H heads, S canvas side, L = S*S cells, D channels, F frequencies.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlan.config import ModelConfig

FREQUENCIES = 8
_MAX_WAVELENGTH = 64.0  # cells; about twice the largest grid, so that no two distances have the same code
_GAIN = 4.0  # total initial kernel weight: a head with a clear relation gives neighbouring cells little weight


def position_codes(coordinates: Tensor) -> Tensor:
    """Returns (..., 2F) cosines and sines of (...) coordinates in cells; a product of two depends on their distance."""
    exponents = torch.arange(FREQUENCIES, device=coordinates.device) / (FREQUENCIES - 1)
    angles = coordinates[..., None].float() * (math.pi * (2 / _MAX_WAVELENGTH) ** exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class SteeredAttention(nn.Module):
    """Attention by position alone, under a relation between positions that is predicted from the context vector.

    For each head the context gives a 2 x 4 table: how strongly a cell's row and column relate to a source cell's row
    and column, each counted from the near and from the far edge of the test input. A reflection, a rotation or a copy
    from a corner needs two entries of the table; which ones a task needs is learnt. Without this layer, cells must find
    each other through colours and positions mixed in one vector, which ten minutes of training did not achieve.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, self.heads = config.hidden_dim, config.num_heads
        self.relation = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, self.heads * 8))
        self.kernel = nn.Parameter(torch.full((self.heads, FREQUENCIES), _GAIN / FREQUENCIES))
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, features: Tensor, context: Tensor, sizes: Tensor, grid: Tensor) -> Tensor:
        """Returns what every cell attends to.

        Args:
            features: (B, S, S, D) features of the test input's cells.
            context: (B, D) context vector.
            sizes: (B, 2) int64 height and width of the test input.
            grid: (B, S, S) bool, true on the cells of the test input; only they are attended to.
        Returns:
            (B, S, S, D).
        """
        batch, side, _, dim = features.shape
        query, key = self._queries_and_keys(context, sizes, side)
        value = self.value(features).view(batch, side * side, self.heads, -1).transpose(1, 2)
        attended = functional.scaled_dot_product_attention(
            query.to(value.dtype), key.to(value.dtype), value, attn_mask=grid.flatten(1)[:, None, None], scale=1.0
        )
        out: Tensor = self.out(attended.transpose(1, 2).reshape(batch, side, side, dim))
        return out

    def _queries_and_keys(self, context: Tensor, sizes: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Returns (B, H, L, 8F) each; a query is its cell's codes, mixed by the relation and weighted by the kernel."""
        step = torch.arange(side, device=context.device)
        near = position_codes(step)  # (S, 2F)
        far = position_codes(sizes[..., None] - 1 - step)  # (B, 2, S, 2F)
        relation = self.relation(context).float().view(-1, self.heads, 2, 4)
        weighted = near * self.kernel.repeat(1, 2)[:, None]  # (H, S, 2F)
        rows, columns = torch.einsum("bhak,hsf->abhskf", relation, weighted)  # (B, H, S, 4, 2F) each
        query = (rows[:, :, :, None] + columns[:, :, None]).flatten(2, 3).flatten(-2)
        near = near.expand(len(sizes), -1, -1)
        along_rows = torch.cat([near, far[:, 0]], dim=-1)[:, :, None].expand(-1, -1, side, -1)
        along_columns = torch.cat([near, far[:, 1]], dim=-1)[:, None].expand(-1, side, -1, -1)
        key = torch.cat([along_rows, along_columns], dim=-1).flatten(1, 2)
        return query, key[:, None].expand(-1, self.heads, -1, -1)
