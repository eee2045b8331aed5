"""What demonstrations show at a glance: sizes, colours, symmetries, what stays and what moves.

F features of a task: each is read from every demonstration; their mean, least and greatest are kept.
"""

import numpy as np
import numpy.typing as npt

from arc_core.task import Task
from jepa_hrl.dsl.primitives.objects import components
from jepa_hrl.dsl.types import Array, Objects

_RATIOS = (1 / 3, 1 / 2, 1.0, 2.0, 3.0)


def task_features(task: Task) -> npt.NDArray[np.float32]:
    """(F,) float32 features of a task's demonstrations, most of them in -1..1."""
    rows = np.array([_pair_features(p.input, p.output) for p in task.train if p.output is not None], dtype=np.float32)
    sizes = {p.output.shape for p in task.train if p.output is not None}
    own = np.array([len(sizes) == 1, len(task.train) / 5], dtype=np.float32)
    return np.concatenate([rows.mean(axis=0), rows.min(axis=0), rows.max(axis=0), own])


def _pair_features(given: Array, wanted: Array) -> list[float]:
    before, after = np.bincount(given.ravel(), minlength=10), np.bincount(wanted.ravel(), minlength=10)
    features = [
        given.shape == wanted.shape, given.shape == wanted.shape[::-1], wanted.shape[0] == wanted.shape[1],
        given.shape[0] == given.shape[1], *(_is_ratio(wanted.shape[0], given.shape[0])),
        *(_is_ratio(wanted.shape[1], given.shape[1])),
        wanted.size < given.size, wanted.size > given.size, np.log2(wanted.size / given.size) / 4,
        (before == after).all(), (np.sort(before[1:]) == np.sort(after[1:])).all(), before[0] == after[0],
        (after[before == 0] > 0).any(), (before[after == 0] > 0).any(),
        np.count_nonzero(before) / 5, np.count_nonzero(after) / 5, before[0] / given.size, after[0] / wanted.size,
        np.count_nonzero(after[1:]) == 1, after[0] == 0, min(_objects(given), 10) / 5, min(_objects(wanted), 10) / 5,
        _objects(given) == _objects(wanted), _objects(wanted) == 1,
        *_symmetries(given), *_symmetries(wanted), *_edges(given), *_edges(wanted),
        *_kept(given, wanted), *_lines(given, wanted),
    ]  # fmt: skip
    return [float(feature) for feature in features]


def _is_ratio(wanted: int, given: int) -> list[bool]:
    return [wanted == ratio * given for ratio in _RATIOS]


def _objects(grid: Array) -> int:
    found = components(grid)
    return len(found.items) if isinstance(found, Objects) else 0


def _symmetries(grid: Array) -> list[float]:
    """Shares of cells that mirrors keep."""
    square = grid.shape[0] == grid.shape[1]
    return [
        float((grid == grid[:, ::-1]).mean()), float((grid == grid[::-1]).mean()),
        float((grid == grid[::-1, ::-1]).mean()), float((grid == grid.T).mean()) if square else -1.0,
    ]  # fmt: skip


def _edges(grid: Array) -> list[bool]:
    """Whether each border is black."""
    return [not edge.any() for edge in (grid[0], grid[-1], grid[:, 0], grid[:, -1])]


def _kept(given: Array, wanted: Array) -> list[float]:
    """Shares of cells that stay, among all, coloured and black ones; -1 where sizes differ."""
    if given.shape != wanted.shape:
        return [-1.0] * 6
    same, colored = given == wanted, given != 0
    counts = [
        float(same.mean()), float(same[colored].mean()) if colored.any() else 1.0,
        float(same[~colored].mean()) if not colored.all() else 1.0,
        float((wanted[~colored] != 0).mean()) if not colored.all() else 0.0,
    ]  # fmt: skip
    falls = [float((given.any(axis=axis) == wanted.any(axis=axis)).mean()) for axis in (0, 1)]
    return counts + falls


def _lines(given: Array, wanted: Array) -> list[float]:
    """Whether rows and columns hold the same colours as before, in order and in any order."""
    found = []
    for source in (given, given.T):
        for axis in (0, 1):
            if source.shape != wanted.shape:
                found += [-1.0, -1.0]
                continue
            ours, theirs = np.sort(source, axis=axis), np.sort(wanted, axis=axis)
            found.append(float((ours == theirs).all(axis=axis).mean()))
            lines = sorted(map(bytes, np.ascontiguousarray(source if axis else source.T)))
            others = sorted(map(bytes, np.ascontiguousarray(wanted if axis else wanted.T)))
            found.append(float(lines == others))
    return found
