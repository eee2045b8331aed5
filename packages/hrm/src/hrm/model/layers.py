"""Layers of the published HRM and TRM. Parameter names are theirs, so checkpoints map one to one.

B batch, T tokens, D channels, H heads.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

# Standard deviation of a unit normal cut at two.
_CUT_STD = 0.87962566103423978


def cut_normal_(weight: Tensor, std: float) -> Tensor:
    """Fills with a normal cut at two, of this standard deviation; zeros for 0. Source: JAX's truncated_normal."""
    if std == 0:
        return nn.init.zeros_(weight)
    scale = std / _CUT_STD
    return nn.init.trunc_normal_(weight, std=scale, a=-2 * scale, b=2 * scale)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer without bias, LeCun initialisation."""
    layer = nn.Linear(inputs, outputs, bias=False)
    cut_normal_(layer.weight.data, inputs**-0.5)
    return layer


def rms_norm(hidden: Tensor, eps: float) -> Tensor:
    """(..., D) over its root mean square, computed in float32 or better; no weights."""
    wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(hidden.dtype)


def rotary_table(length: int, head_dim: int, theta: float) -> Tensor:
    """(2, length, head_dim) cosines and sines. Source: Su et al. 2021, arXiv:2104.09864, in the half-split layout."""
    frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    angles = torch.cat([angles, angles], dim=-1)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(heads: Tensor, table: Tensor) -> Tensor:
    """(B, T, H, d) turned by (2, B or 1, T, 1, d) cosines and sines."""
    first, second = heads.chunk(2, dim=-1)
    return (heads * table[0] + torch.cat([-second, first], dim=-1) * table[1]).to(heads.dtype)


class Attention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_proj = linear(dim, 3 * dim)
        self.o_proj = linear(dim, dim)

    def forward(self, hidden: Tensor, table: Tensor | None) -> Tensor:
        """(B, T, D) of the same; positions come from the table alone."""
        batch, length, dim = hidden.shape
        query, key, value = self.qkv_proj(hidden).view(batch, length, 3, self.heads, -1).unbind(2)
        if table is not None:
            query, key = rotate(query, table), rotate(key, table)
        read = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )
        out: Tensor = self.o_proj(read.transpose(1, 2).reshape(batch, length, dim))
        return out


def swiglu_inner(dim: int, expansion: float) -> int:
    """Inner channels: two thirds of the expansion, for three matrices instead of two, up to a multiple of 256."""
    return -(-round(expansion * dim * 2 / 3) // 256) * 256


class SwiGlu(nn.Module):
    """Gated feed-forward layer. Source: Shazeer 2020, arXiv:2002.05202."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        inner = swiglu_inner(dim, expansion)
        self.gate_up_proj = linear(dim, 2 * inner)
        self.down_proj = linear(inner, dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) of the same."""
        gate, up = self.gate_up_proj(hidden).chunk(2, dim=-1)
        out: Tensor = self.down_proj(functional.silu(gate) * up)
        return out


class Block(nn.Module):
    """Attention, then the feed-forward layer, each added and then normalised."""

    def __init__(self, dim: int, heads: int, expansion: float, eps: float, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.mlp = SwiGlu(dim, expansion)
        self.eps, self.dropout = eps, dropout

    def forward(self, hidden: Tensor, table: Tensor | None) -> Tensor:
        """(B, T, D) of the same."""
        hidden = rms_norm(hidden + self._dropped(self.self_attn(hidden, table)), self.eps)
        return rms_norm(hidden + self._dropped(self.mlp(hidden)), self.eps)

    def _dropped(self, added: Tensor) -> Tensor:
        return functional.dropout(added, self.dropout, self.training) if self.dropout else added


class Level(nn.Module):
    """A stack of blocks that reads its own state and what is added to it."""

    def __init__(self, layers: int, dim: int, heads: int, expansion: float, eps: float, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(dim, heads, expansion, eps, dropout) for _ in range(layers))

    def forward(self, state: Tensor, injection: Tensor, table: Tensor | None) -> Tensor:
        """(B, T, D) the next state."""
        hidden = state + injection
        for layer in self.layers:
            hidden = layer(hidden, table)
        return hidden


def scale_of(dim: int) -> float:
    """Factor of embeddings, which are initialised at its inverse."""
    return math.sqrt(dim)
