"""A transformer over sequences of unlike lengths, laid one after another. B sequences, T tokens of all, H channels.

Linear layers and norms compute on the tokens alone. For attention several sequences share a row of fixed length, R rows
of L places, and see only themselves, so that little is padded and a few calls do for all.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_ROW = 66  # places, where no sequence is longer: two of a grid and its 32 objects


class Rows(NamedTuple):
    """Where sequences lie in rows.

    Attributes:
        places: (T,) of the tokens among the R L places.
        sequences: (R, L) which sequence a place is of, -1 for none.
    """

    places: Tensor
    sequences: Tensor

    @property
    def together(self) -> Tensor:
        """(R, L, L) bool, places of the same sequence, or both of none."""
        return self.sequences[:, :, None] == self.sequences[:, None, :]

    def spread(self, tokens: Tensor) -> Tensor:
        """(T, H) tokens in their rows, (R, L, H), 0 elsewhere."""
        shape = self.sequences.shape
        flat = tokens.new_zeros(shape.numel(), tokens.shape[1]).index_copy(0, self.places, tokens)
        return flat.view(*shape, tokens.shape[1])

    def gather(self, spread: Tensor) -> Tensor:
        """(R, L, H) back to (T, H) tokens."""
        return spread.flatten(0, 1).index_select(0, self.places)


def rows_of(lengths: Tensor) -> Rows:
    """Rows that sequences of (B,) lengths fill in their order, each whole in one row."""
    counts = lengths.cpu().numpy()
    row_length = max(_ROW, int(counts.max(initial=0)))
    starts = np.empty(len(counts), dtype=np.int64)
    end = 0  # among all places
    for number, count in enumerate(counts.tolist()):
        left = -end % row_length
        starts[number] = end + left if count > left else end
        end = int(starts[number]) + count
    numbers = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(numbers)) - np.repeat(counts.cumsum() - counts, counts)
    places = starts[numbers] + within
    sequences = np.full((-(-end // row_length), row_length), -1)
    sequences.flat[places] = numbers
    return Rows(torch.from_numpy(places).to(lengths.device), torch.from_numpy(sequences).to(lengths.device))


def transform(transformer: nn.TransformerEncoder, tokens: Tensor, rows: Rows) -> Tensor:
    """(T, H) what the transformer makes of (T, H) tokens, those of a sequence one after another.

    Its layers must normalise first, and neither they nor their attention drop anything out.
    """
    seen = rows.together[:, None]
    for layer in transformer.layers:
        assert isinstance(layer, nn.TransformerEncoderLayer)
        tokens = tokens + _attended(layer.self_attn, layer.norm1(tokens), rows, seen)
        tokens = tokens + layer.linear2(functional.gelu(layer.linear1(layer.norm2(tokens))))
    assert transformer.norm is not None
    normed: Tensor = transformer.norm(tokens)
    return normed


def _attended(attention: nn.MultiheadAttention, tokens: Tensor, rows: Rows, seen: Tensor) -> Tensor:
    width, heads = attention.embed_dim, attention.num_heads
    spread = rows.spread(functional.linear(tokens, attention.in_proj_weight, attention.in_proj_bias))
    query, key, value = spread.view(*spread.shape[:2], 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    projected_back: Tensor = attention.out_proj(rows.gather(mixed.transpose(1, 2).flatten(2)))
    return projected_back
