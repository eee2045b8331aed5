"""MSRE, multi-scale relative encoding: where each cell lies as seen from each clue.

B batch, K clues, S canvas side, F Fourier features, E = 3 * 32 channels.
"""

import torch
from torch import Tensor, nn

from arc_core.grid import MAX_SIDE

FREQUENCIES = 8
GROUP_CHANNELS = 32
CHANNELS = 3 * GROUP_CHANNELS


def relative_coordinates(centroids: Tensor, sizes: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Three views of cell minus centroid. The first two are the same along a whole row or column, so they are given
    by axis.

    Args:
        centroids: (B, K, 2) row and column in cells.
        sizes: (B, 2) height and width of the grid.
    Returns:
        offset: (B, K, 2, S) along rows and along columns, in cells over 30 so that the frequencies fit.
        relative: (B, K, 2, S) offset over (height, width).
        polar: (B, K, S, S, 3) radius in cells over 30, sine and cosine of the angle (0 and 1 at the centroid).
    """
    step = torch.arange(side, device=centroids.device, dtype=centroids.dtype)
    offset = step - centroids[..., None]
    relative = offset / sizes[:, None, :, None].to(offset.dtype)
    rows, columns = offset[:, :, 0, :, None], offset[:, :, 1, None, :]
    square = rows**2 + columns**2
    # The angle has no gradient at the centroid itself, where a plain quotient would give nan.
    radius = (square + 1e-6).sqrt()
    cosine = torch.where(square < 1e-6, 1.0, columns / radius)
    return offset / MAX_SIDE, relative, torch.stack([radius / MAX_SIDE, rows / radius, cosine], dim=-1)


def fourier_features(values: Tensor) -> Tensor:
    """(...) to (..., 16): sines and cosines at 8 octaves, the first of half a period over -1..1."""
    frequencies = torch.pi / 2 * 2.0 ** torch.arange(FREQUENCIES, device=values.device)
    angles = values[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class MultiScaleRelativeEncoding(nn.Module):
    """Fourier features of the three views, 32 channels each.

    A linear layer of a cell's row and column features is the sum of one for rows and one for columns, so those of
    the first two views are computed on S positions, not S*S.
    """

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.ModuleList(nn.Linear(2 * FREQUENCIES, GROUP_CHANNELS) for _ in range(2))
        self.relative = nn.ModuleList(nn.Linear(2 * FREQUENCIES, GROUP_CHANNELS) for _ in range(2))
        self.polar = nn.Linear(2 * FREQUENCIES + 2, GROUP_CHANNELS)

    def forward(self, centroids: Tensor, sizes: Tensor, side: int) -> Tensor:
        """(B, K, S, S, E) of (B, K, 2) centroids and (B, 2) sizes."""
        offset, relative, polar = relative_coordinates(centroids, sizes, side)
        around = torch.cat([fourier_features(polar[..., 0]), polar[..., 1:]], dim=-1)
        groups = [_by_axis(self.offset, offset), _by_axis(self.relative, relative), self.polar(around)]
        return torch.cat(groups, dim=-1)


def _by_axis(layers: nn.ModuleList, values: Tensor) -> Tensor:
    """(B, K, S, S, 32) of (B, K, 2, S) values along rows and columns."""
    features = fourier_features(values)
    summed: Tensor = layers[0](features[:, :, 0])[:, :, :, None] + layers[1](features[:, :, 1])[:, :, None]
    return summed


def mean_over_clues(encoding: Tensor, usage: Tensor) -> Tensor:
    """(B, S, S, E): every cell gets every clue's encoding, weighted by the clue's (B, K) usage alone.

    Weighting by the attention map would erase the encoding everywhere but at the anchor.
    """
    weights = (usage / usage.sum(1, keepdim=True)).to(encoding.dtype)
    return torch.einsum("bk,bkije->bije", weights, encoding)
