"""MSRE, multi-scale relative encoding: the position of each cell relative to each clue.

B batch, K clues, S canvas side, F Fourier features, E = 3 * 32 channels.
"""

import torch
from torch import Tensor, nn

from arc_core.grid import MAX_SIDE

FREQUENCIES = 8
GROUP_CHANNELS = 32
CHANNELS = 3 * GROUP_CHANNELS


def relative_coordinates(centroids: Tensor, sizes: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns three forms of the offset of each cell from each centroid.

    The first two depend on the row or on the column alone, so they are given by axis.

    Args:
        centroids: (B, K, 2) row and column in cells.
        sizes: (B, 2) height and width of the grid.
        side: S.
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
    """Returns (..., 16) sines and cosines of (...) values at 8 octaves; the lowest has half a period over -1..1."""
    frequencies = torch.pi / 2 * 2.0 ** torch.arange(FREQUENCIES, device=values.device)
    angles = values[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class MultiScaleRelativeEncoding(nn.Module):
    """Encodes the three forms of `relative_coordinates` by Fourier features, in 32 channels each.

    A linear layer on a cell's row and column features is the sum of one on rows and one on columns, so the first two
    forms are computed on S positions, not S*S.
    """

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.ModuleList(nn.Linear(2 * FREQUENCIES, GROUP_CHANNELS) for _ in range(2))
        self.relative = nn.ModuleList(nn.Linear(2 * FREQUENCIES, GROUP_CHANNELS) for _ in range(2))
        self.polar = nn.Linear(2 * FREQUENCIES + 2, GROUP_CHANNELS)

    def forward(self, centroids: Tensor, sizes: Tensor, side: int) -> Tensor:
        """Returns the (B, K, S, S, E) encoding of every cell relative to every clue.

        Args:
            centroids: (B, K, 2) row and column in cells.
            sizes: (B, 2) height and width of the grid.
            side: S.
        """
        offset, relative, polar = relative_coordinates(centroids, sizes, side)
        polar_features = torch.cat([fourier_features(polar[..., 0]), polar[..., 1:]], dim=-1)
        return torch.cat(
            [
                _encode_by_axis(self.offset, offset),
                _encode_by_axis(self.relative, relative),
                self.polar(polar_features),
            ],
            dim=-1,
        )


def _encode_by_axis(layers: nn.ModuleList, values: Tensor) -> Tensor:
    """Encodes (B, K, 2, S) values along rows and columns as (B, K, S, S, 32)."""
    features = fourier_features(values)
    encoding: Tensor = layers[0](features[:, :, 0])[:, :, :, None] + layers[1](features[:, :, 1])[:, :, None]
    return encoding


def mean_over_clues(encoding: Tensor, usage: Tensor) -> Tensor:
    """Averages the (B, K, S, S, E) encoding over clues, weighted by their (B, K) usage, to (B, S, S, E).

    Weighting by the clues' attention maps instead would erase the encoding everywhere but at the anchors.
    """
    weights = (usage / usage.sum(1, keepdim=True)).to(encoding.dtype)
    return torch.einsum("bk,bkije->bije", weights, encoding)
