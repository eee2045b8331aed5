"""LCR, latent counting registers: one register a colour, with its count, the appearance of its cells, and what becomes
of it in the demonstrations.

B batch, N demonstrations, S canvas side, D channels.
"""

import torch
from torch import Tensor, nn

from arc_core.grid import NUM_COLORS
from arc_core.tensors import OUTSIDE
from rlan.config import ModelConfig
from rlan.model.relative_encoding import FREQUENCIES, fourier_features

_MAX_LOG_COUNT = torch.tensor(901.0).log().item()  # log(1 + cells of the largest grid)


def color_counts(canvas: Tensor) -> Tensor:
    """Counts the cells of each colour, as (B, 10) float, in a (B, S, S) uint8 canvas; OUTSIDE is not counted."""
    colors = torch.arange(NUM_COLORS, device=canvas.device, dtype=canvas.dtype)
    return (canvas.flatten(1)[:, None] == colors[:, None]).float().sum(-1)


def color_transitions(demos: Tensor, mask: Tensor) -> Tensor:
    """Estimates what becomes of each colour in the demonstrations.

    Args:
        demos: (B, N, 2, S, S) uint8 inputs and outputs.
        mask: (B, N) bool, false for padding.
    Returns:
        (B, 10, 11) float: of the cells with colour a in the inputs, the fraction with class b at the same position of
        the output. A colour that no input has gets zeros.
    """
    source, target = demos[:, :, 0].flatten(2).long(), demos[:, :, 1].flatten(2).long()  # (B, N, L)
    classes = OUTSIDE + 1
    source = source.masked_fill(~mask[:, :, None], OUTSIDE)
    index = (source * classes + target).flatten(1)
    counts = index.new_zeros(len(demos), classes * classes).scatter_add_(1, index, torch.ones_like(index))
    counts = counts.view(-1, classes, classes)[:, :NUM_COLORS].float()
    return counts / counts.sum(2, keepdim=True).clamp_min(1)


def apply_color_transitions(cells: Tensor, transitions: Tensor) -> Tensor:
    """Returns the probabilities of each cell's class if its colour alone decided; unseen colours and outside stay.

    Args:
        cells: (B, S, S, 11) one-hot test input.
        transitions: (B, 10, 11) of `color_transitions`.
    Returns:
        (B, S, S, 11).
    """
    table = torch.eye(OUTSIDE + 1, device=cells.device).repeat(len(cells), 1, 1)
    is_seen = transitions.any(dim=2, keepdim=True)
    table[:, :NUM_COLORS] = torch.where(is_seen, transitions, table[:, :NUM_COLORS])
    return (cells.flatten(1, 2) @ table).view_as(cells)


class LatentCountingRegisters(nn.Module):
    """Computes one register for each colour.

    # Differs: a register also encodes what becomes of its colour in the demonstrations, each cell reads the register of
    its own colour, and the solver starts from these transitions. Learnt from pooled tokens alone, "this colour stays,
    that one turns blue" takes far longer.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.count = nn.Linear(2 * 2 * FREQUENCIES, dim)
        self.appearance = nn.Linear(dim, dim)
        self.transition = nn.Linear(OUTSIDE + 1, dim, bias=False) if config.use_context else None
        self.color = nn.Parameter(torch.randn(NUM_COLORS, dim) * 0.1)
        self.norm = nn.RMSNorm(dim)

    def forward(self, canvas: Tensor, features: Tensor, transitions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the registers, and for every cell the register of its colour.

        Args:
            canvas: (B, S, S) uint8 test input.
            features: (B, S, S, D) features of its cells.
            transitions: (B, 10, 11) of `color_transitions`, None without demonstrations.
        Returns:
            registers: (B, 10, D).
            cells: (B, S, S, D), 0 outside the grid.
        """
        counts = color_counts(canvas)
        area = counts.sum(1, keepdim=True).clamp_min(1)
        scales = torch.stack([torch.log1p(counts) / _MAX_LOG_COUNT, counts / area], dim=-1)
        membership = nn.functional.one_hot(canvas.flatten(1).long(), OUTSIDE + 1)[..., :NUM_COLORS].to(features.dtype)
        mean = (membership.mT @ features.flatten(1, 2)) / counts.clamp_min(1)[..., None].to(features.dtype)
        registers = self.count(fourier_features(scales).flatten(-2)) + self.appearance(mean) + self.color
        if self.transition is not None and transitions is not None:
            registers = registers + self.transition(transitions)
        registers = self.norm(registers)
        return registers, (membership @ registers.to(membership.dtype)).view_as(features)
