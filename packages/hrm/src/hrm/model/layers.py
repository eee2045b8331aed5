"""Layers of the published HRM and TRM. Parameter names are theirs, so checkpoints map one to one.

B batch, T tokens, D channels, H heads, d = D / H channels of a head.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

# Standard deviation of a unit normal that is truncated at two standard deviations.
_TRUNCATED_STD = 0.87962566103423978


def fill_truncated_normal(weight: Tensor, std: float) -> Tensor:
    """Fills a tensor in place from a normal truncated at two standard deviations, rescaled to have this deviation.

    A deviation of 0 gives zeros. Source: JAX's truncated_normal initialiser.
    """
    if std == 0:
        return nn.init.zeros_(weight)
    scale = std / _TRUNCATED_STD
    return nn.init.trunc_normal_(weight, std=scale, a=-2 * scale, b=2 * scale)


def make_linear(inputs: int, outputs: int) -> nn.Linear:
    """Makes a linear layer without bias, with LeCun initialisation."""
    layer = nn.Linear(inputs, outputs, bias=False)
    fill_truncated_normal(layer.weight.data, inputs**-0.5)
    return layer


def rms_norm(hidden: Tensor, eps: float) -> Tensor:
    """Divides (..., D) by its root mean square, computed in float32 or better. It has no weights."""
    wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(hidden.dtype)


def rotary_table(length: int, head_dim: int, theta: float) -> Tensor:
    """Computes the cosines and sines of rotary positions.

    Args:
        length: number of positions.
        head_dim: d, channels of an attention head; even.
        theta: base of the geometric series of wavelengths.
    Returns:
        (2, length, head_dim) float32, cosines first.
    Source: Su et al. 2021, arXiv:2104.09864, in the layout that splits the channels in halves.
    """
    frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    angles = torch.cat([angles, angles], dim=-1)
    return torch.stack([angles.cos(), angles.sin()])


def apply_rotary(heads: Tensor, cos_sin: Tensor) -> Tensor:
    """Rotates (B, T, H, d) queries or keys by (2, B or 1, T, 1, d) cosines and sines."""
    first, second = heads.chunk(2, dim=-1)
    return (heads * cos_sin[0] + torch.cat([-second, first], dim=-1) * cos_sin[1]).to(heads.dtype)


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, padding included, as published."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_proj = make_linear(dim, 3 * dim)
        self.o_proj = make_linear(dim, dim)

    def forward(self, hidden: Tensor, cos_sin: Tensor | None) -> Tensor:
        """Maps (B, T, D) to (B, T, D). Positions enter through `cos_sin` alone; None leaves them out."""
        batch, length, dim = hidden.shape
        query, key, value = self.qkv_proj(hidden).view(batch, length, 3, self.heads, -1).unbind(2)
        if cos_sin is not None:
            query, key = apply_rotary(query, cos_sin), apply_rotary(key, cos_sin)
        attended = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )
        out: Tensor = self.o_proj(attended.transpose(1, 2).reshape(batch, length, dim))
        return out


def swiglu_inner(dim: int, expansion: float) -> int:
    """Returns the inner channels of SwiGLU: two thirds of the expansion, as it has three matrices instead of two,
    rounded up to a multiple of 256."""
    return -(-round(expansion * dim * 2 / 3) // 256) * 256


class SwiGlu(nn.Module):
    """Gated feed-forward layer. Source: Shazeer 2020, arXiv:2002.05202."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        inner = swiglu_inner(dim, expansion)
        self.gate_up_proj = make_linear(dim, 2 * inner)
        self.down_proj = make_linear(inner, dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, T, D) to (B, T, D)."""
        gate, up = self.gate_up_proj(hidden).chunk(2, dim=-1)
        out: Tensor = self.down_proj(functional.silu(gate) * up)
        return out


class Block(nn.Module):
    """A post-norm transformer block: attention, then the feed-forward layer, each added and then normalised."""

    def __init__(self, dim: int, heads: int, expansion: float, eps: float, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.mlp = SwiGlu(dim, expansion)
        self.eps, self.dropout = eps, dropout

    def forward(self, hidden: Tensor, cos_sin: Tensor | None) -> Tensor:
        """Maps (B, T, D) to (B, T, D)."""
        hidden = rms_norm(hidden + self._drop_out(self.self_attn(hidden, cos_sin)), self.eps)
        return rms_norm(hidden + self._drop_out(self.mlp(hidden)), self.eps)

    def _drop_out(self, residual: Tensor) -> Tensor:
        return functional.dropout(residual, self.dropout, self.training) if self.dropout else residual


class ReasoningModule(nn.Module):
    """A stack of blocks that updates one latent state; f_L or f_H of the paper."""

    def __init__(self, layers: int, dim: int, heads: int, expansion: float, eps: float, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(dim, heads, expansion, eps, dropout) for _ in range(layers))

    def forward(self, state: Tensor, injection: Tensor, cos_sin: Tensor | None) -> Tensor:
        """Computes the next state.

        Args:
            state: (B, T, D) the module's own latent state.
            injection: (B, T, D) what is added to it: the other level's state, and for f_L the input embeddings.
            cos_sin: rotary positions, see `apply_rotary`; None for learned positions.
        """
        hidden = state + injection
        for layer in self.layers:
            hidden = layer(hidden, cos_sin)
        return hidden


def embedding_scale(dim: int) -> float:
    """Returns the factor of embeddings, which are initialised with its inverse as their deviation."""
    return math.sqrt(dim)
