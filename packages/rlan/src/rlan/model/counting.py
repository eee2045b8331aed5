"""LCR, latent counting registers: how much of each colour there is, and what its cells look like.

B batch, S canvas side, D channels.
"""

import torch
from torch import Tensor, nn

from arc_core.grid import NUM_COLORS
from rlan.model.relative_encoding import FREQUENCIES, fourier_features

_LARGEST = torch.tensor(901.0).log().item()  # log(1 + cells of the largest grid)


def color_counts(canvas: Tensor) -> Tensor:
    """(B, 10) float, cells of each colour in (B, S, S) uint8; cells outside the grid count for none."""
    colors = torch.arange(NUM_COLORS, device=canvas.device, dtype=canvas.dtype)
    return (canvas.flatten(1)[:, None] == colors[:, None]).float().sum(-1)


class LatentCountingRegisters(nn.Module):
    """One register a colour."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.count = nn.Linear(2 * 2 * FREQUENCIES, dim)
        self.look = nn.Linear(dim, dim)
        self.color = nn.Parameter(torch.randn(NUM_COLORS, dim) * 0.1)
        self.norm = nn.RMSNorm(dim)

    def forward(self, canvas: Tensor, features: Tensor) -> Tensor:
        """(B, 10, D) of (B, S, S) uint8 and (B, S, S, D)."""
        counts = color_counts(canvas)
        area = counts.sum(1, keepdim=True).clamp_min(1)
        scales = torch.stack([torch.log1p(counts) / _LARGEST, counts / area], dim=-1)
        member = nn.functional.one_hot(canvas.flatten(1).long(), NUM_COLORS + 1)[..., :NUM_COLORS]
        total = torch.einsum("blc,bld->bcd", member.to(features.dtype), features.flatten(1, 2))
        mean = total / counts.clamp_min(1)[..., None].to(features.dtype)
        registers: Tensor = self.norm(self.count(fourier_features(scales).flatten(-2)) + self.look(mean) + self.color)
        return registers
