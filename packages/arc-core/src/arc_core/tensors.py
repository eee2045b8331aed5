"""Every grid of a set of tasks on the device, gathered into augmented, bucketed canvases.

Shape suffixes: G grids asked for, S canvas side. A canvas is uint8: colours 0..9, OUTSIDE (10) past the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arc_core.augment import NUM_DIHEDRAL, dihedral
from arc_core.grid import MAX_SIDE, NUM_COLORS, Grid
from arc_core.task import Task

OUTSIDE = NUM_COLORS
NO_GRID = -1
CANVAS_SIDES = (5, 8, 11, 14, 17, 20, 24, 30)

# Grids are stored with one more row and column of OUTSIDE, so that a position past a grid's extent has a source.
_STRIDE = MAX_SIDE + 1


def canvas_for(side: int) -> int:
    """The smallest canvas side that holds a grid of this side (1..30)."""
    return next(canvas for canvas in CANVAS_SIDES if canvas >= side)


def _source_rule(element: int) -> tuple[int, int, int]:
    """(swap, flip rows, flip columns) such that turned[i, j] = grid[r, c], with (r, c) = (j, i) if swap else (i, j),
    each then counted from the far end if flipped. Read off by turning a 2x2 grid of known cells.
    """
    probe = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    turned = dihedral(probe, element)
    corner, beside = int(turned[0, 0]), int(turned[0, 1])
    return int(abs(beside - corner) == 2), corner // 2, corner % 2


@dataclass(frozen=True)
class TaskTensors:
    """Grids of a sequence of tasks, flattened.

    Pair p has its input at grid 2p and its output at grid 2p + 1 (size 0 where the answer is withheld). Pairs of a
    task are consecutive, demonstrations first.

    Attributes:
        cells: (grids, 31*31) uint8 on the device, OUTSIDE past each grid.
        sizes: (grids, 2) int64 on the device: height, width.
        source_rules: (8, 3) int64 on the device, see `_source_rule`.
        first_pair: (tasks + 1,) int64 numpy: task t has the pairs first_pair[t] .. first_pair[t + 1] - 1.
        num_train: (tasks,) int64 numpy: how many of them are demonstrations.
        grid_sizes: `sizes` as numpy, for planning batches without asking the device.
    """

    cells: Tensor
    sizes: Tensor
    source_rules: Tensor
    first_pair: np.ndarray
    num_train: np.ndarray
    grid_sizes: np.ndarray

    @classmethod
    def from_tasks(cls, tasks: Sequence[Task], device: torch.device | str = "cpu") -> "TaskTensors":
        """All pairs of the tasks, in their order, on the device."""
        grids: list[Grid | None] = []
        counts = []
        for task in tasks:
            pairs = task.train + task.test
            counts.append(len(pairs))
            for pair in pairs:
                grids += [pair.input, pair.output]
        cells = np.full((len(grids), _STRIDE, _STRIDE), OUTSIDE, dtype=np.uint8)
        sizes = np.zeros((len(grids), 2), dtype=np.int64)
        for index, grid in enumerate(grids):
            if grid is not None:
                cells[index, : grid.shape[0], : grid.shape[1]] = grid
                sizes[index] = grid.shape
        rules = [_source_rule(element) for element in range(NUM_DIHEDRAL)]
        return cls(
            torch.from_numpy(cells.reshape(len(grids), -1)).to(device),
            torch.from_numpy(sizes).to(device),
            torch.tensor(rules, dtype=torch.int64, device=device),
            np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
            np.array([len(task.train) for task in tasks], dtype=np.int64),
            sizes,
        )

    def gather(self, grids: Tensor, elements: Tensor, colors: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Grids turned within their own extent, recoloured, at the top left of a canvas.

        Args:
            grids: (G,) int64 grid numbers, NO_GRID for an empty canvas.
            elements: (G,) int64 dihedral elements 0..7.
            colors: (G, 10) uint8 new colour names.
            side: S, no less than any side of these grids.
        Returns:
            canvas: (G, S, S) uint8, colours 0..9 and OUTSIDE.
            sizes: (G, 2) int64 height and width after turning, 0 for an empty canvas.
        """
        present = grids >= 0
        index = grids.clamp_min(0)
        sizes = self.sizes.index_select(0, index) * present[:, None]  # (G, 2)
        swap, flip_row, flip_column = self.source_rules.index_select(0, elements).unbind(1)
        turned = torch.where(swap[:, None].bool(), sizes.flip(1), sizes)
        steps = torch.arange(side, device=grids.device)
        along = _source_steps(sizes, flip_row, flip_column, steps)  # (G, 2, S): source row, source column
        rows, columns = along[:, 0] * _STRIDE, along[:, 1]
        swapped = swap[:, None].bool()
        source = (
            torch.where(swapped, columns, rows)[:, :, None]
            + torch.where(swapped, rows, columns)[:, None, :]
            + (index * _STRIDE**2)[:, None, None]
        )
        cells = self.cells.view(-1).gather(0, source.view(-1)).view(len(grids), -1)  # (G, S*S)
        table = torch.cat([colors, colors.new_full((len(colors), 1), OUTSIDE)], dim=1)
        return table.gather(1, cells.long()).view(-1, side, side), turned


def _source_steps(sizes: Tensor, flip_row: Tensor, flip_column: Tensor, steps: Tensor) -> Tensor:
    """(G, 2, S) source row and column of each step along a turned side; past the extent, the OUTSIDE border."""
    extent = sizes[:, :, None]
    flipped = torch.stack([flip_row, flip_column], dim=1)[:, :, None].bool()
    along = torch.where(flipped, extent - 1 - steps, steps.expand(len(sizes), 2, -1))
    return torch.where(steps < extent, along, MAX_SIDE)
