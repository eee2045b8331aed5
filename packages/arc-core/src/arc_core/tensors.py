"""Holds the grids of a set of tasks on the device and gathers them into augmented canvases of few sizes.

Shape suffixes: G gathered grids, S canvas side. A canvas is uint8: colours 0..9, OUTSIDE (10) beyond the grid.
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

# Each grid is stored four times: as its rows, its reversed rows, its columns and its reversed columns. The other half
# of the dihedral group reads these lines in reverse order. Gathering whole lines moves 30 bytes an index, not one.
_ROW_ORDERS = 4


def canvas_for(side: int) -> int:
    """Returns the smallest canvas side that holds a grid of this side (1..30)."""
    return next(canvas for canvas in CANVAS_SIDES if canvas >= side)


def _row_orders(grid: Grid) -> tuple[Grid, ...]:
    return grid, grid[:, ::-1], grid.T, grid.T[:, ::-1]


def _row_rule(element: int) -> tuple[int, int]:
    """Returns the row order, and whether to read it upwards, by which a grid is transformed by a dihedral element."""
    probe = np.arange(6, dtype=np.uint8).reshape(2, 3)  # all cells differ
    transformed = dihedral(probe, element)
    for order, rows in enumerate(_row_orders(probe)):
        for upwards in (0, 1):
            if np.array_equal(transformed, rows[::-1] if upwards else rows):
                return order, upwards
    raise AssertionError(f"dihedral element {element} is none of the 8")


@dataclass(frozen=True)
class TaskTensors:
    """The grids of a sequence of tasks as flat tensors.

    Pair p has its input at grid 2p and its output at grid 2p + 1 (size 0 where the answer is withheld). Pairs of a
    task are consecutive, demonstrations first.

    Attributes:
        rows: (rows, 30) uint8 on the device: every grid's rows in four orders, padded with OUTSIDE; row 0 is OUTSIDE.
        first_row: (grids, 4) int64 on the device: index in `rows` at which a grid begins in each order.
        sizes: (grids, 2) int64 on the device: height, width.
        row_rules: (8, 2) int64 on the device: the row order of a dihedral element, and whether it reads upwards.
        first_pair: (tasks + 1,) int64 numpy: task t has the pairs first_pair[t] .. first_pair[t + 1] - 1.
        num_train: (tasks,) int64 numpy: number of demonstrations among them.
        grid_sizes: `sizes` as numpy, for planning batches without asking the device.
    """

    rows: Tensor
    first_row: Tensor
    sizes: Tensor
    row_rules: Tensor
    first_pair: np.ndarray
    num_train: np.ndarray
    grid_sizes: np.ndarray

    @classmethod
    def from_tasks(cls, tasks: Sequence[Task], device: torch.device | str = "cpu") -> "TaskTensors":
        """Copies all pairs of the tasks, in their order, to the device."""
        pairs = [pair for task in tasks for pair in task.train + task.test]
        grids = [grid for pair in pairs for grid in (pair.input, pair.output)]
        counts = [len(task.train) + len(task.test) for task in tasks]
        sizes = np.array([(0, 0) if grid is None else grid.shape for grid in grids], dtype=np.int64).reshape(-1, 2)
        heights = np.repeat(sizes, 2, axis=1)  # rows of the four orders: height twice, width twice
        ends = 1 + np.cumsum(heights).reshape(-1, _ROW_ORDERS)
        first_row = ends - heights
        rows = np.full((ends[-1, -1] if len(ends) else 1, MAX_SIDE), OUTSIDE, dtype=np.uint8)
        for grid, starts in zip(grids, first_row.tolist(), strict=True):
            if grid is not None:
                for start, lines in zip(starts, _row_orders(grid), strict=True):
                    rows[start : start + lines.shape[0], : lines.shape[1]] = lines
        return cls(
            torch.from_numpy(rows).to(device),
            torch.from_numpy(first_row).to(device),
            torch.from_numpy(sizes).to(device),
            torch.tensor([_row_rule(element) for element in range(NUM_DIHEDRAL)]).to(device),
            np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
            np.array([len(task.train) for task in tasks], dtype=np.int64),
            sizes,
        )

    @property
    def pair_sides(self) -> np.ndarray:
        """(pairs,) int64: the longest side of each pair's input and output."""
        return np.asarray(self.grid_sizes.reshape(-1, 4).max(axis=1))

    def gather(self, grids: Tensor, elements: Tensor, colors: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Gathers grids, transformed and recoloured, at the top left of canvases.

        Args:
            grids: (G,) int64 grid indices, NO_GRID for an empty canvas.
            elements: (G,) int64 dihedral elements 0..7.
            colors: (G, 10) uint8 colour permutations; entry c replaces colour c.
            side: canvas side S, at least the longest side of these grids.
        Returns:
            canvas: (G, S, S) uint8, colours 0..9 and OUTSIDE.
            sizes: (G, 2) int64 height and width after the transformation, 0 for an empty canvas.
        """
        present, index = grids >= 0, grids.clamp_min(0)
        order, upwards = self.row_rules.index_select(0, elements).unbind(1)
        sizes = self.sizes.index_select(0, index) * present[:, None]
        sizes = torch.where((order >= 2)[:, None], sizes.flip(1), sizes)
        height = sizes[:, :1]
        step = torch.arange(side, device=grids.device)  # (S,)
        within = torch.where(upwards[:, None].bool(), height - 1 - step, step)  # (G, S)
        start = self.first_row.view(-1).index_select(0, index * _ROW_ORDERS + order)
        source = torch.where(step < height, start[:, None] + within, 0)
        cells = self.rows.index_select(0, source.view(-1))[:, :side].long().view(len(grids), side * side)
        table = torch.cat([colors, colors.new_full((len(colors), 1), OUTSIDE)], dim=1)  # (G, 11)
        return table.gather(1, cells).view(-1, side, side), sizes
