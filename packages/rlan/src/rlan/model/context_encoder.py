"""ContextEncoder: encodes the demonstrations as support tokens and one context vector.

B batch, N demonstrations (padded, masked), S canvas side, D channels, R side of the pooled map, G grids.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from arc_core.grid import NUM_COLORS
from arc_core.tensors import OUTSIDE
from rlan.config import ModelConfig
from rlan.model.grid_encoder import GridEncoder
from rlan.model.layers import Attention, MaskedDepthwiseConv, TransformerBlock, extent_mask

_APPEARANCE_CHANNELS = 32
_SHARPNESS = 8.0  # initial inverse temperature of cosines: a full match outweighs a half match fifty times


@dataclass(frozen=True)
class Context:
    """Encoded demonstrations.

    Attributes:
        support: (B, N, R*R, D) support tokens, one for each region of each demonstration.
        mask: (B, N) bool, false for padding.
        vector: (B, D) context vector that summarises them.
    """

    support: Tensor
    mask: Tensor
    vector: Tensor

    @property
    def tokens(self) -> Tensor:
        """The (B, N*R*R, D) support tokens of all demonstrations."""
        return self.support.flatten(1, 2)

    @property
    def token_mask(self) -> Tensor:
        """The (B, N*R*R) bool mask of `tokens`, false for padding."""
        return self.mask.repeat_interleave(self.support.shape[2], dim=1)


def pooling_matrix(extent: Tensor, bins: int, side: int) -> Tensor:
    """Returns the weights with which adaptive average pooling merges the first cells of a line into bins.

    Args:
        extent: (...) int64 number of cells pooled, 1..S; 0 gives bins of zero weight.
        bins: number of bins, R.
        side: S.
    Returns:
        (..., R, S) float.
    Source: torch.nn.AdaptiveAvgPool1d: bin i covers floor(i n / bins) .. ceil((i + 1) n / bins) - 1.
    """
    index = torch.arange(bins, device=extent.device)
    start = (index * extent[..., None]) // bins
    end = -((-(index + 1) * extent[..., None]) // bins)
    cell = torch.arange(side, device=extent.device)
    covered = (cell >= start[..., None]) & (cell < end[..., None])
    return covered / (end - start).clamp_min(1)[..., None]


def pool_regions(cells: Tensor, extent: Tensor, bins: int) -> Tensor:
    """Averages cells over R x R regions of each grid's own extent.

    Args:
        cells: (G, S, S, D).
        extent: (G, 2) int64 heights and widths.
        bins: R.
    Returns:
        (G, R*R, D).
    """
    rows, columns = (pooling_matrix(extent[:, axis], bins, cells.shape[1]).to(cells.dtype) for axis in range(2))
    return torch.einsum("grs,gstd,gct->grcd", rows, cells, columns).flatten(1, 2)


class RegionMatching(nn.Module):
    """Tells each region of an output where in the input it comes from: the mean position of the input regions that
    look alike.

    Pooling merges input and output cell by cell, which loses what moved; comparing the two maps region by region,
    each over its own grid, recovers it. Both sides share one projection, so regions match from the first step.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.appearance = nn.Linear(NUM_COLORS, _APPEARANCE_CHANNELS, bias=False)
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS))
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, demos: Tensor, sizes: Tensor, positions: Tensor) -> Tensor:
        """Returns (G, R*R, D) features for every region of the outputs.

        Args:
            demos: (G, 2, S, S) uint8 inputs and outputs.
            sizes: (G, 2, 2) int64 heights and widths.
            positions: (R*R, D) position embeddings of the regions.
        """
        colors = functional.one_hot(demos.flatten(0, 1).long(), OUTSIDE + 1)[..., :NUM_COLORS].to(positions.dtype)
        regions = pool_regions(colors, sizes.flatten(0, 1), math.isqrt(len(positions)))
        # In float32 under autocast too: in float16 the smallest norm that it divides by would be 0.
        appearance = functional.normalize(self.appearance(regions).float(), dim=-1)
        appearance = appearance.view(-1, 2, len(positions), _APPEARANCE_CHANNELS)
        matches = torch.softmax(self.sharpness * appearance[:, 1] @ appearance[:, 0].mT, dim=-1)  # (G, R*R, R*R)
        origins: Tensor = self.out(matches @ positions)
        return origins


class ContextEncoder(nn.Module):
    """Encodes each demonstration from its input, output, their difference and `RegionMatching`, pools it over its own
    extent, and then lets the tokens of all demonstrations attend to each other. The order of demonstrations has no
    effect."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.bins = config.spatial_downsample
        self.pair = nn.Linear(3 * dim, dim)
        self.local = MaskedDepthwiseConv(dim)
        self.mix = nn.Linear(dim, dim)
        self.position = nn.Parameter(torch.randn(self.bins**2, dim) * 0.1)
        self.matching = RegionMatching(dim)
        self.blocks = nn.ModuleList(TransformerBlock(dim, config.num_heads) for _ in range(config.context_layers))
        self.norm = nn.RMSNorm(dim)
        self.summary_query = nn.Parameter(torch.randn(dim) * 0.1)
        self.summary = Attention(dim, config.num_heads)

    def forward(self, encoder: GridEncoder, demos: Tensor, sizes: Tensor, mask: Tensor) -> Context:
        """Encodes the demonstrations of a batch.

        Args:
            encoder: the grid encoder, shared with the test input.
            demos: (B, N, 2, S, S) uint8 inputs and outputs.
            sizes: (B, N, 2, 2) int64 heights and widths.
            mask: (B, N) bool, false for padding; at least one true a row.
        """
        batch, num_demos, _, side, _ = demos.shape
        extent = sizes.amax(dim=2).flatten(0, 1)  # (BN, 2)
        cells = extent_mask(extent, side)[..., None].float()  # (BN, S, S, 1)
        grids = encoder(demos.flatten(0, 2), sizes.flatten(0, 2), cells.repeat_interleave(2, dim=0))
        source, target = grids[::2], grids[1::2]
        pair = functional.gelu(self.pair(torch.cat([source, target, (target - source).abs()], dim=-1)))
        pair = pair + self.mix(functional.gelu(self.local(pair, cells)))
        origin = self.matching(demos.flatten(0, 1), sizes.flatten(0, 1), self.position)
        tokens = pool_regions(pair, extent, self.bins) + self.position + origin  # (BN, R*R, D)
        tokens = tokens.view(batch, -1, tokens.shape[-1])  # (B, N*R*R, D)
        token_mask = mask.repeat_interleave(self.bins**2, dim=1)
        for block in self.blocks:
            tokens = block(tokens, token_mask)
        tokens = self.norm(tokens)
        query = self.summary_query.expand(batch, 1, -1)
        vector = self.summary(query, self.summary.keys_and_values(tokens), token_mask)[:, 0]
        return Context(tokens.view(batch, num_demos, -1, tokens.shape[-1]), mask, vector)
