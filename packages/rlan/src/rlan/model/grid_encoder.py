"""GridEncoder: turns a canvas of colours into features of its cells. G grids, S canvas side, D channels."""

import torch
from torch import Tensor, nn

from arc_core.grid import MAX_SIDE
from arc_core.tensors import OUTSIDE
from rlan.model.layers import MaskedDepthwiseConv


class GridEncoder(nn.Module):
    """Encodes each cell's colour, its position from the near and from the far edges, and its 3x3 surroundings.

    The test input, and the inputs and outputs of the demonstrations, share one encoder.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.color = nn.Embedding(OUTSIDE + 1, dim)
        # Positions past the grid's far edge count on from it: index MAX_SIDE is the edge itself.
        self.near = nn.Parameter(torch.randn(2, MAX_SIDE, dim) * 0.1)
        self.far = nn.Parameter(torch.randn(2, 2 * MAX_SIDE, dim) * 0.1)
        self.local = MaskedDepthwiseConv(dim)
        self.norm = nn.RMSNorm(dim, elementwise_affine=False)  # the depthwise kernel scales channels anyway
        self.mix = nn.Linear(dim, dim)

    def forward(self, canvas: Tensor, sizes: Tensor, mask: Tensor) -> Tensor:
        """Encodes every cell.

        Args:
            canvas: (G, S, S) uint8.
            sizes: (G, 2) int64 height and width of each grid, from whose far edges positions are counted too.
            mask: (G, S, S, 1) float, 1 on the cells to encode.
        Returns:
            (G, S, S, D), meaningless where the mask is 0.
        """
        side = canvas.shape[-1]
        step = torch.arange(side, device=canvas.device)
        from_far = (sizes[:, :, None] - 1 - step + MAX_SIDE).clamp(0, 2 * MAX_SIDE - 1)  # (G, 2, S)
        rows = self.near[0, :side] + self.far[0][from_far[:, 0]]  # (G, S, D)
        columns = self.near[1, :side] + self.far[1][from_far[:, 1]]
        cells = self.color(canvas.int()) + rows[:, :, None] + columns[:, None]
        features: Tensor = cells + self.mix(torch.nn.functional.gelu(self.local(self.norm(cells), mask)))
        return features
