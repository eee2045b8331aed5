"""A transformer over sequences of unlike lengths, laid one after another. T tokens of all, B sequences, L, H channels.

Only attention sees sequences padded, so that linear layers and norms compute on no padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Part(NamedTuple):
    """Sequences that are attended to together.

    Attributes:
        tokens: of all of them.
        shape: (B, L) that they are padded to.
        places: (tokens,) of the tokens among the B L padded ones; None where none are padded.
        seen: (B, 1, 1, L) bool, which are tokens; None where all are.
    """

    tokens: int
    shape: tuple[int, int]
    places: Tensor | None
    seen: Tensor | None


def part_of(seen: Tensor) -> Part:
    """The sequences whose tokens stand where (B, L) is true, row by row."""
    places = torch.nonzero(seen.flatten())[:, 0]
    shape = (seen.shape[0], seen.shape[1])
    if len(places) == seen.numel():
        return Part(len(places), shape, None, None)
    return Part(len(places), shape, places, seen[:, None, None])


def transform(transformer: nn.TransformerEncoder, tokens: Tensor, parts: Sequence[Part]) -> Tensor:
    """(T, H) what the transformer makes of (T, H) tokens, those of the parts one after another.

    Its layers must normalise first, and neither they nor their attention drop anything out.
    """
    for layer in transformer.layers:
        assert isinstance(layer, nn.TransformerEncoderLayer)
        tokens = tokens + _attended(layer.self_attn, layer.norm1(tokens), parts)
        tokens = tokens + layer.linear2(functional.gelu(layer.linear1(layer.norm2(tokens))))
    assert transformer.norm is not None
    normed: Tensor = transformer.norm(tokens)
    return normed


def _attended(attention: nn.MultiheadAttention, tokens: Tensor, parts: Sequence[Part]) -> Tensor:
    width, heads = attention.embed_dim, attention.num_heads
    projected = functional.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    found = []
    for part, own in zip(parts, torch.split(projected, [part.tokens for part in parts]), strict=True):
        count = part.shape[0] * part.shape[1]
        padded = own if part.places is None else own.new_zeros(count, 3 * width).index_copy(0, part.places, own)
        query, key, value = padded.view(*part.shape, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=part.seen)
        mixed = mixed.transpose(1, 2).reshape(count, width)
        found.append(mixed if part.places is None else mixed.index_select(0, part.places))
    projected_back: Tensor = attention.out_proj(torch.cat(found))
    return projected_back
