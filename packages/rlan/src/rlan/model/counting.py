"""LCR, latent counting registers: how much of each colour there is, and what its cells look like.

B batch, S canvas side, D channels.
"""

import torch
from torch import Tensor, nn

from arc_core.grid import NUM_COLORS
from arc_core.tensors import OUTSIDE
from rlan.config import ModelConfig
from rlan.model.relative_encoding import FREQUENCIES, fourier_features

_LARGEST = torch.tensor(901.0).log().item()  # log(1 + cells of the largest grid)


def color_counts(canvas: Tensor) -> Tensor:
    """(B, 10) float, cells of each colour in (B, S, S) uint8; cells outside the grid count for none."""
    colors = torch.arange(NUM_COLORS, device=canvas.device, dtype=canvas.dtype)
    return (canvas.flatten(1)[:, None] == colors[:, None]).float().sum(-1)


def color_transitions(demos: Tensor, mask: Tensor) -> Tensor:
    """(B, 10, 11) what becomes of each colour: of the cells with colour a in the shown inputs, the fraction that has
    class b at the same place in the output. A colour that no shown input has gets zeros.

    Args:
        demos: (B, N, 2, S, S) uint8.
        mask: (B, N) bool.
    """
    source, target = demos[:, :, 0].flatten(2).long(), demos[:, :, 1].flatten(2).long()  # (B, N, L)
    classes = OUTSIDE + 1
    source = source.masked_fill(~mask[:, :, None], OUTSIDE)
    index = (source * classes + target).flatten(1)
    counts = index.new_zeros(len(demos), classes * classes).scatter_add_(1, index, torch.ones_like(index))
    counts = counts.view(-1, classes, classes)[:, :NUM_COLORS].float()
    return counts / counts.sum(2, keepdim=True).clamp_min(1)


def first_guess(cells: Tensor, transitions: Tensor) -> Tensor:
    """(B, S, S, 11) what each cell would become if its colour alone decided; unseen colours and outside stay.

    Args:
        cells: (B, S, S, 11) one-hot test input.
        transitions: (B, 10, 11) of `color_transitions`.
    """
    table = torch.eye(OUTSIDE + 1, device=cells.device).repeat(len(cells), 1, 1)
    seen = transitions.any(dim=2, keepdim=True)
    table[:, :NUM_COLORS] = torch.where(seen, transitions, table[:, :NUM_COLORS])
    return (cells.flatten(1, 2) @ table).view_as(cells)


class LatentCountingRegisters(nn.Module):
    """One register a colour.

    # Differs: a register also knows what becomes of its colour in the demonstrations, each cell reads the register of
    its own colour, and the solver starts from it. Learnt from pooled tokens alone, "this colour stays, that one turns
    blue" takes far longer.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.count = nn.Linear(2 * 2 * FREQUENCIES, dim)
        self.look = nn.Linear(dim, dim)
        self.become = nn.Linear(OUTSIDE + 1, dim, bias=False) if config.use_context else None
        self.color = nn.Parameter(torch.randn(NUM_COLORS, dim) * 0.1)
        self.norm = nn.RMSNorm(dim)

    def forward(self, canvas: Tensor, features: Tensor, transitions: Tensor | None) -> tuple[Tensor, Tensor]:
        """The registers, and for every cell the one of its colour.

        Args:
            canvas: (B, S, S) uint8.
            features: (B, S, S, D).
            transitions: (B, 10, 11) of `color_transitions`, None without demonstrations.
        Returns:
            registers: (B, 10, D).
            cells: (B, S, S, D), 0 outside the grid.
        """
        counts = color_counts(canvas)
        area = counts.sum(1, keepdim=True).clamp_min(1)
        scales = torch.stack([torch.log1p(counts) / _LARGEST, counts / area], dim=-1)
        member = nn.functional.one_hot(canvas.flatten(1).long(), OUTSIDE + 1)[..., :NUM_COLORS].to(features.dtype)
        mean = (member.mT @ features.flatten(1, 2)) / counts.clamp_min(1)[..., None].to(features.dtype)
        registers = self.count(fourier_features(scales).flatten(-2)) + self.look(mean) + self.color
        if self.become is not None and transitions is not None:
            registers = registers + self.become(transitions)
        registers = self.norm(registers)
        return registers, (member @ registers.to(member.dtype)).view_as(features)
