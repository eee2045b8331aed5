"""ContextEncoder: demonstrations to support tokens and a context vector.

B batch, N demonstrations (padded, masked), S canvas side, D channels, R side of the pooled map.
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
from rlan.model.layers import Attention, LocalMix, TransformerBlock, extent_mask

_LOOK_CHANNELS = 32
_SHARPNESS = 8.0  # at the start, of cosines: the best match outweighs a half match fifty times


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


def pooled(cells: Tensor, extent: Tensor, bins: int) -> Tensor:
    """(G, R*R, D) means of (G, S, S, D) cells over R x R regions of each grid's own (G, 2) extent."""
    rows, columns = (pooling_matrix(extent[:, axis], bins, cells.shape[1]).to(cells.dtype) for axis in range(2))
    return torch.einsum("grs,gstd,gct->grcd", rows, cells, columns).flatten(1, 2)


class RegionMatching(nn.Module):
    """Where each region of an output comes from: the mean place of the input's regions that look like it.

    Pooling merges input and output cell by cell, so what moved is lost there; comparing the two maps region by region,
    each over its own grid, finds it again. Both sides share one projection, so regions match from the first step.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.look = nn.Linear(NUM_COLORS, _LOOK_CHANNELS, bias=False)
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS))
        self.read = nn.Linear(dim, dim, bias=False)

    def forward(self, demos: Tensor, sizes: Tensor, place: Tensor) -> Tensor:
        """(G, R*R, D) for every region of the outputs.

        Args:
            demos: (G, 2, S, S) uint8 inputs and outputs.
            sizes: (G, 2, 2) int64.
            place: (R*R, D) the places' embeddings.
        """
        colors = functional.one_hot(demos.flatten(0, 1).long(), OUTSIDE + 1)[..., :NUM_COLORS].to(place.dtype)
        regions = pooled(colors, sizes.flatten(0, 1), math.isqrt(len(place)))
        look = functional.normalize(self.look(regions), dim=-1).view(-1, 2, len(place), _LOOK_CHANNELS)
        alike = torch.softmax(self.sharpness * look[:, 1] @ look[:, 0].mT, dim=-1)  # (G, R*R, R*R)
        read: Tensor = self.read(alike @ place)
        return read


class ContextEncoder(nn.Module):
    """Each pair's input, output, difference and matches, pooled over the pair's own extent; then attention over the
    set."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.bins = config.spatial_downsample
        self.pair = nn.Linear(3 * dim, dim)
        self.local = LocalMix(dim)
        self.mix = nn.Linear(dim, dim)
        self.place = nn.Parameter(torch.randn(self.bins**2, dim) * 0.1)
        self.matching = RegionMatching(dim)
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
        origin = self.matching(demos.flatten(0, 1), sizes.flatten(0, 1), self.place)
        tokens = pooled(pair, extent, self.bins) + self.place + origin  # (BN, R*R, D)
        tokens = tokens.view(batch, -1, tokens.shape[-1])  # (B, N*R*R, D)
        token_mask = mask.repeat_interleave(self.bins**2, dim=1)
        for block in self.blocks:
            tokens = block(tokens, token_mask)
        tokens = self.norm(tokens)
        question = self.question.expand(batch, 1, -1)
        vector = self.summary(question, self.summary.keys_and_values(tokens), token_mask)[:, 0]
        return Context(tokens.view(batch, number, -1, tokens.shape[-1]), mask, vector)
