"""Features of a task's demonstrations: sizes, colours, symmetries, and what stays and moves.

F features of a task: each is computed for every demonstration; the mean, minimum and maximum over them are kept.
"""

import numpy as np
import numpy.typing as npt

from arc_core.task import Task
from jepa_hrl.dsl.primitives.objects import components
from jepa_hrl.dsl.types import Array, Objects

_RATIOS = (1 / 3, 1 / 2, 1.0, 2.0, 3.0)


def task_features(task: Task) -> npt.NDArray[np.float32]:
    """Computes the (F,) float32 features of a task's demonstrations, most of them in -1..1."""
    rows = np.array([_pair_features(p.input, p.output) for p in task.train if p.output is not None], dtype=np.float32)
    sizes = {p.output.shape for p in task.train if p.output is not None}
    whole_task = np.array([len(sizes) == 1, len(task.train) / 5], dtype=np.float32)
    return np.concatenate([rows.mean(axis=0), rows.min(axis=0), rows.max(axis=0), whole_task])


def _pair_features(grid: Array, output: Array) -> list[float]:
    """Computes the features of one demonstration."""
    before, after = np.bincount(grid.ravel(), minlength=10), np.bincount(output.ravel(), minlength=10)
    features = [
        grid.shape == output.shape, grid.shape == output.shape[::-1], output.shape[0] == output.shape[1],
        grid.shape[0] == grid.shape[1], *(_ratio_flags(output.shape[0], grid.shape[0])),
        *(_ratio_flags(output.shape[1], grid.shape[1])),
        output.size < grid.size, output.size > grid.size, np.log2(output.size / grid.size) / 4,
        (before == after).all(), (np.sort(before[1:]) == np.sort(after[1:])).all(), before[0] == after[0],
        (after[before == 0] > 0).any(), (before[after == 0] > 0).any(),
        np.count_nonzero(before) / 5, np.count_nonzero(after) / 5, before[0] / grid.size, after[0] / output.size,
        np.count_nonzero(after[1:]) == 1, after[0] == 0, min(_count_objects(grid), 10) / 5,
        min(_count_objects(output), 10) / 5, _count_objects(grid) == _count_objects(output),
        _count_objects(output) == 1,
        *_symmetries(grid), *_symmetries(output), *_black_borders(grid), *_black_borders(output),
        *_equal_cell_shares(grid, output), *_equal_line_shares(grid, output),
    ]  # fmt: skip
    return [float(feature) for feature in features]


def _ratio_flags(output_side: int, input_side: int) -> list[bool]:
    return [output_side == ratio * input_side for ratio in _RATIOS]


def _count_objects(grid: Array) -> int:
    objects = components(grid)
    return len(objects.items) if isinstance(objects, Objects) else 0


def _symmetries(grid: Array) -> list[float]:
    """Returns the shares of cells that reflections leave unchanged; -1 for the transpose of an oblong grid."""
    square = grid.shape[0] == grid.shape[1]
    return [
        float((grid == grid[:, ::-1]).mean()), float((grid == grid[::-1]).mean()),
        float((grid == grid[::-1, ::-1]).mean()), float((grid == grid.T).mean()) if square else -1.0,
    ]  # fmt: skip


def _black_borders(grid: Array) -> list[bool]:
    return [not edge.any() for edge in (grid[0], grid[-1], grid[:, 0], grid[:, -1])]


def _equal_cell_shares(grid: Array, output: Array) -> list[float]:
    """Returns shares of cells that stay, among all, coloured and black ones; -1 where the sizes differ."""
    if grid.shape != output.shape:
        return [-1.0] * 6
    same, colored = grid == output, grid != 0
    shares = [
        float(same.mean()), float(same[colored].mean()) if colored.any() else 1.0,
        float(same[~colored].mean()) if not colored.all() else 1.0,
        float((output[~colored] != 0).mean()) if not colored.all() else 0.0,
    ]  # fmt: skip
    projections = [float((grid.any(axis=axis) == output.any(axis=axis)).mean()) for axis in (0, 1)]
    return shares + projections


def _equal_line_shares(grid: Array, output: Array) -> list[float]:
    """Tells whether rows and columns hold the same colours as before, in order and in any order; also transposed."""
    shares = []
    for source in (grid, grid.T):
        for axis in (0, 1):
            if source.shape != output.shape:
                shares += [-1.0, -1.0]
                continue
            source_sorted, output_sorted = np.sort(source, axis=axis), np.sort(output, axis=axis)
            shares.append(float((source_sorted == output_sorted).all(axis=axis).mean()))
            lines = sorted(map(bytes, np.ascontiguousarray(source if axis else source.T)))
            others = sorted(map(bytes, np.ascontiguousarray(output if axis else output.T)))
            shares.append(float(lines == others))
    return shares
