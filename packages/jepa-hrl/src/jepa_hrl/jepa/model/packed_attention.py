"""A transformer over packed sequences of different lengths. B sequences, T tokens of all of them, H channels.

Linear layers and norms compute on the T tokens alone. For attention, several sequences share a row of fixed length and
attend only within themselves, so that there is little padding and few calls: R rows of L positions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn import functional

Integers = npt.NDArray[np.int64]

_MIN_ROW_LENGTH = 66  # positions; a longer sequence lengthens the rows. Two grids with 32 objects each fit.


class PackedRows(NamedTuple):
    """Where the tokens of packed sequences lie in rows.

    Attributes:
        positions: (T,) index of each token among the R L positions.
        sequences: (R, L) index of the sequence at each position, -1 for padding.
    """

    positions: Tensor
    sequences: Tensor

    @property
    def same_sequence(self) -> Tensor:
        """(R, L, L) bool, pairs of positions of one sequence, and pairs of padding."""
        return self.sequences[:, :, None] == self.sequences[:, None, :]

    def unpack(self, tokens: Tensor) -> Tensor:
        """Lays (T, H) tokens into rows, (R, L, H), with zeros as padding."""
        shape = self.sequences.shape
        flat = tokens.new_zeros(shape.numel(), tokens.shape[1]).index_copy(0, self.positions, tokens)
        return flat.view(*shape, tokens.shape[1])

    def pack(self, rows: Tensor) -> Tensor:
        """Takes the (T, H) tokens out of (R, L, H) rows, without the padding."""
        return rows.flatten(0, 1).index_select(0, self.positions)


class GridSequences(NamedTuple):
    """Where tokens lie in sequences of a grid's own token followed by those of its objects. G grids, M objects.

    Attributes:
        host_counts: (G,) objects of each grid, as the host knows them.
        counts: (G,) the same on the device.
        grid_positions: (G,) index of each grid's own token among the G + M tokens.
        object_positions: (M,) index of each object's token among them.
        rows: where the sequences lie in rows.
    """

    host_counts: Integers
    counts: Tensor
    grid_positions: Tensor
    object_positions: Tensor
    rows: PackedRows


def plan_sequences(counts: Integers) -> list[Integers]:
    """Plans `GridSequences` on the host.

    Args:
        counts: (G,) objects of each grid.
    Returns:
        The arrays to upload for `make_sequences`.
    """
    grids, owners = np.arange(len(counts)), np.repeat(np.arange(len(counts)), counts)
    positions, sequences = plan_rows(counts + 1)
    return [counts, grids + counts.cumsum() - counts, np.arange(len(owners)) + owners + 1, positions, sequences]


def make_sequences(host_counts: Integers, arrays: Sequence[Tensor]) -> GridSequences:
    """Makes `GridSequences` of the arrays of `plan_sequences`, which are on the device now."""
    counts, grid_positions, object_positions, positions, sequences = arrays
    return GridSequences(host_counts, counts, grid_positions, object_positions, PackedRows(positions, sequences))


def plan_rows(counts: Integers) -> tuple[Integers, Integers]:
    """Assigns sequences of (B,) lengths to rows in their order, each to a single row: the arrays of `PackedRows`."""
    row_length = max(_MIN_ROW_LENGTH, int(counts.max(initial=0)))
    starts = np.empty(len(counts), dtype=np.int64)
    end = 0  # of the last sequence, among all positions
    for index, count in enumerate(counts.tolist()):
        left = -end % row_length
        starts[index] = end + left if count > left else end
        end = int(starts[index]) + count
    owners = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(owners)) - np.repeat(counts.cumsum() - counts, counts)
    positions = starts[owners] + within
    sequences = np.full((-(-end // row_length), row_length), -1)
    sequences.flat[positions] = owners
    return positions, sequences


def transform(transformer: nn.TransformerEncoder, tokens: Tensor, rows: PackedRows) -> Tensor:
    """Applies a transformer to packed sequences.

    Args:
        transformer: its layers normalise first (pre-norm), and nothing is dropped out.
        tokens: (T, H), those of a sequence one after another.
        rows: where the tokens lie for attention.
    Returns:
        (T, H) transformed tokens.
    """
    attention_mask = rows.same_sequence[:, None]
    for layer in transformer.layers:
        assert isinstance(layer, nn.TransformerEncoderLayer)
        tokens = tokens + _attend(layer.self_attn, layer.norm1(tokens), rows, attention_mask)
        tokens = tokens + layer.linear2(functional.gelu(layer.linear1(layer.norm2(tokens))))
    assert transformer.norm is not None
    normed: Tensor = transformer.norm(tokens)
    return normed


def _attend(attention: nn.MultiheadAttention, tokens: Tensor, rows: PackedRows, attention_mask: Tensor) -> Tensor:
    """Applies multi-head self-attention within each sequence: (T, H) to (T, H)."""
    width, heads = attention.embed_dim, attention.num_heads
    unpacked = rows.unpack(functional.linear(tokens, attention.in_proj_weight, attention.in_proj_bias))
    query, key, value = unpacked.view(*unpacked.shape[:2], 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
    projected: Tensor = attention.out_proj(rows.pack(mixed.transpose(1, 2).flatten(2)))
    return projected
