"""Layers on cells. Features are channels last, (B, S, S, D), because every mixing layer is linear in a cell.

B batch, S canvas side, L = S*S cells or any number of tokens, D channels, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from arc_core.grid import MAX_SIDE

# Longest wavelength of rotary positions is about 2 pi * 100 cells, many times the largest grid.
_ROTARY_BASE = 100.0


def rotary_table(head_dim: int) -> Tensor:
    """(2, 30, 30, head_dim / 2) cosines and sines: rows turn the first half of the pairs, columns the second.

    Source: Su et al. 2021, arXiv:2104.09864, applied to each axis.
    """
    quarter = head_dim // 4
    frequencies = _ROTARY_BASE ** (-torch.arange(quarter) / quarter)
    angle = torch.arange(MAX_SIDE)[:, None] * frequencies  # (30, quarter)
    rows = angle[:, None].expand(MAX_SIDE, MAX_SIDE, quarter)
    columns = angle[None].expand(MAX_SIDE, MAX_SIDE, quarter)
    angles = torch.cat([rows, columns], dim=-1)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """(B, H, L, head_dim) with its pairs (i, i + head_dim / 2) turned by (L, head_dim / 2) angles."""
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class Attention(nn.Module):
    """Multi-head attention of cells or tokens to tokens, with masked keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def keys_and_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, M, head_dim) each, of (B, M, D) memory; worth keeping when the memory is read several times."""
        key, value = (self._split(part) for part in self.key_value(memory).chunk(2, dim=-1))
        return key, value

    def _split(self, tokens: Tensor) -> Tensor:
        batch, length, dim = tokens.shape
        return tokens.view(batch, length, self.heads, dim // self.heads).transpose(1, 2)

    def forward(
        self,
        tokens: Tensor,
        memory: tuple[Tensor, Tensor],
        mask: Tensor,
        rotary: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """What each token reads.

        Args:
            tokens: (B, L, D).
            memory: `keys_and_values`.
            mask: (B, M) bool, true where the memory may be read; at least one a row.
            rotary: (L, head_dim / 2) cosines and sines when tokens and memory are the same cells.
        Returns:
            (B, L, D).
        """
        query, (key, value) = self._split(self.query(tokens)), memory
        if rotary is not None:
            query, key = rotate(query, *rotary), rotate(key, *rotary)
        read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        out: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return out


class LocalMix(nn.Module):
    """A 3x3 depthwise convolution that sees zeros past the mask, whatever the canvas."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, 3, dim))
        nn.init.normal_(self.weight, std=1 / 3)

    def forward(self, cells: Tensor, mask: Tensor) -> Tensor:
        """(B, S, S, D) of the same, with mask (B, S, S, 1) float."""
        kernel = self.weight.permute(2, 0, 1)[:, None]
        mixed = functional.conv2d((cells * mask).permute(0, 3, 1, 2), kernel, padding=1, groups=cells.shape[-1])
        return mixed.permute(0, 2, 3, 1)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention over a masked set of tokens, then a gated feed-forward layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.RMSNorm(dim), Attention(dim, heads)
        self.feed_norm = nn.RMSNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D) of the same, with mask (B, L) bool."""
        normed = self.attention_norm(tokens)
        tokens = tokens + self.attention(normed, self.attention.keys_and_values(normed), mask)
        mixed: Tensor = tokens + self.feed(self.feed_norm(tokens))
        return mixed


def extent_mask(sizes: Tensor, side: int) -> Tensor:
    """(..., S, S) bool, true inside the top-left rectangle of (..., 2) height and width."""
    step = torch.arange(side, device=sizes.device)
    rows = step < sizes[..., 0, None]
    columns = step < sizes[..., 1, None]
    return rows[..., :, None] & columns[..., None, :]
