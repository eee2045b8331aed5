"""Layers on cells. Features are channels last, (B, S, S, D), because all channel mixing is a linear layer on one cell.

B batch, S canvas side, L = S*S cells or any number of tokens, D channels, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from arc_core.grid import MAX_SIDE

# Longest wavelength of rotary positions is about 2 pi * 100 cells, many times the largest grid.
_ROTARY_BASE = 100.0


def rotary_table(head_dim: int) -> Tensor:
    """Returns the (2, 30, 30, head_dim / 2) cosines and sines of rotary positions on a grid.

    A cell's row rotates the first half of the channel pairs, its column the second half.

    Source: Su et al. 2021, arXiv:2104.09864, applied to each axis.
    """
    quarter = head_dim // 4
    frequencies = _ROTARY_BASE ** (-torch.arange(quarter) / quarter)
    angle = torch.arange(MAX_SIDE)[:, None] * frequencies  # (30, quarter)
    rows = angle[:, None].expand(MAX_SIDE, MAX_SIDE, quarter)
    columns = angle[None].expand(MAX_SIDE, MAX_SIDE, quarter)
    angles = torch.cat([rows, columns], dim=-1)
    return torch.stack([angles.cos(), angles.sin()])


def apply_rotary(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotates the channel pairs (i, i + head_dim / 2) of queries or keys by their positions' angles.

    Args:
        heads: (B, H, L, head_dim).
        cosine: (L, head_dim / 2) of the angles.
        sine: (L, head_dim / 2) of the angles.
    """
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class Attention(nn.Module):
    """Multi-head attention of cells or tokens to a masked memory of tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def keys_and_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the (B, H, M, head_dim) keys and values of a (B, M, D) memory; several reads can share them."""
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
        """Returns what each token reads from the memory.

        Args:
            tokens: (B, L, D) from which the queries are computed.
            memory: keys and values of `keys_and_values`.
            mask: (B, M) bool, true where the memory may be read; at least one true a row.
            rotary: (L, head_dim / 2) cosines and sines; only where tokens and memory are the same cells.
        Returns:
            (B, L, D).
        """
        query, (key, value) = self._split(self.query(tokens)), memory
        if rotary is not None:
            query, key = apply_rotary(query, *rotary), apply_rotary(key, *rotary)
        read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        out: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return out


class MaskedDepthwiseConv(nn.Module):
    """A 3x3 depthwise convolution that reads zeros past the mask, so that results do not depend on the canvas."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, 3, dim))
        nn.init.normal_(self.weight, std=1 / 3)

    def forward(self, cells: Tensor, mask: Tensor) -> Tensor:
        """Convolves (B, S, S, D) cells, of which those count where the (B, S, S, 1) float mask is 1."""
        kernel = self.weight.permute(2, 0, 1)[:, None]
        mixed = functional.conv2d((cells * mask).permute(0, 3, 1, 2), kernel, padding=1, groups=cells.shape[-1])
        return mixed.permute(0, 2, 3, 1)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention over a masked set of tokens, then a feed-forward layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.RMSNorm(dim), Attention(dim, heads)
        self.feed_forward_norm = nn.RMSNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Updates (B, L, D) tokens, which attend to those where the (B, L) bool mask is true."""
        normalised = self.attention_norm(tokens)
        tokens = tokens + self.attention(normalised, self.attention.keys_and_values(normalised), mask)
        mixed: Tensor = tokens + self.feed_forward(self.feed_forward_norm(tokens))
        return mixed


def extent_mask(sizes: Tensor, side: int) -> Tensor:
    """Returns (..., S, S) bool, true inside the top-left rectangle of (..., 2) height and width."""
    step = torch.arange(side, device=sizes.device)
    rows = step < sizes[..., 0, None]
    columns = step < sizes[..., 1, None]
    return rows[..., :, None] & columns[..., None, :]
