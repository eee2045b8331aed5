"""ContextEncoder: demonstrations to support tokens and a context vector.

B batch, N demonstrations (padded, masked), S canvas side, D channels, R side of the pooled map.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlan.config import ModelConfig
from rlan.model.grid_encoder import GridEncoder
from rlan.model.layers import Attention, LocalMix, TransformerBlock, extent_mask


@dataclass(frozen=True)
class Context:
    """What the demonstrations say.

    Attributes:
        support: (B, N, R*R, D) tokens.
        mask: (B, N) bool, true for demonstrations that are there.
        vector: (B, D).
    """

    support: Tensor
    mask: Tensor
    vector: Tensor

    @property
    def tokens(self) -> Tensor:
        """(B, N*R*R, D) the support tokens of all demonstrations."""
        return self.support.flatten(1, 2)

    @property
    def token_mask(self) -> Tensor:
        """(B, N*R*R) bool, true for tokens of demonstrations that are there."""
        return self.mask.repeat_interleave(self.support.shape[2], dim=1)


def pooling_matrix(extent: Tensor, bins: int, side: int) -> Tensor:
    """(..., bins, S) weights that average a line's first `extent` cells into bins, as adaptive pooling does.

    Args:
        extent: (...) int64, 1..S; 0 gives bins of zero weight.
    Source: torch.nn.AdaptiveAvgPool1d: bin i covers floor(i n / bins) .. ceil((i + 1) n / bins) - 1.
    """
    index = torch.arange(bins, device=extent.device)
    start = (index * extent[..., None]) // bins
    end = -((-(index + 1) * extent[..., None]) // bins)
    cell = torch.arange(side, device=extent.device)
    covered = (cell >= start[..., None]) & (cell < end[..., None])
    return covered / (end - start).clamp_min(1)[..., None]


class ContextEncoder(nn.Module):
    """Each pair's input, output and difference, pooled over the pair's own extent; then attention over the set."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.bins = config.spatial_downsample
        self.pair = nn.Linear(3 * dim, dim)
        self.local = LocalMix(dim)
        self.mix = nn.Linear(dim, dim)
        self.place = nn.Parameter(torch.randn(self.bins**2, dim) * 0.1)
        self.blocks = nn.ModuleList(TransformerBlock(dim, config.num_heads) for _ in range(config.context_layers))
        self.norm = nn.RMSNorm(dim)
        self.question = nn.Parameter(torch.randn(dim) * 0.1)
        self.summary = Attention(dim, config.num_heads)

    def forward(self, encoder: GridEncoder, demos: Tensor, sizes: Tensor, mask: Tensor) -> Context:
        """Tokens and vector of a batch.

        Args:
            encoder: shared with the test input.
            demos: (B, N, 2, S, S) uint8 inputs and outputs.
            sizes: (B, N, 2, 2) int64 their heights and widths.
            mask: (B, N) bool; at least one true a row.
        """
        batch, number, _, side, _ = demos.shape
        extent = sizes.amax(dim=2).flatten(0, 1)  # (BN, 2)
        cells = extent_mask(extent, side)[..., None].float()  # (BN, S, S, 1)
        both = encoder(demos.flatten(0, 2), sizes.flatten(0, 2), cells.repeat_interleave(2, dim=0))
        source, target = both[::2], both[1::2]
        pair = torch.nn.functional.gelu(self.pair(torch.cat([source, target, (target - source).abs()], dim=-1)))
        pair = pair + self.mix(torch.nn.functional.gelu(self.local(pair, cells)))
        rows = pooling_matrix(extent[:, 0], self.bins, side).to(pair.dtype)  # (BN, R, S)
        columns = pooling_matrix(extent[:, 1], self.bins, side).to(pair.dtype)
        pooled = torch.einsum("grs,gstd,gct->grcd", rows, pair, columns).flatten(1, 2)  # (BN, R*R, D)
        tokens = (pooled + self.place).view(batch, -1, self.place.shape[1])  # (B, N*R*R, D)
        token_mask = mask.repeat_interleave(self.bins**2, dim=1)
        for block in self.blocks:
            tokens = block(tokens, token_mask)
        tokens = self.norm(tokens)
        question = self.question.expand(batch, 1, -1)
        vector = self.summary(question, self.summary.keys_and_values(tokens), token_mask)[:, 0]
        return Context(tokens.view(batch, number, -1, tokens.shape[-1]), mask, vector)
