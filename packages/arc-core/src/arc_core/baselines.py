"""Baselines without learning, which every method has to beat."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arc_core.grid import MAX_SIDE, Grid, grid_hash, most_common_color
from arc_core.solver import Budget, Candidate, OpenSolver, SolverEntry, TaskPrediction
from arc_core.task import Task

Rule = Callable[[Task, Grid], Sequence[Grid]]


def identity_answers(task: Task, grid: Grid) -> list[Grid]:
    """Answers with the test input itself."""
    return [grid]


def common_output_answers(task: Task, grid: Grid) -> list[Grid]:
    """Answers with the demonstrations' outputs, most frequent first, the earlier one first on a tie."""
    outputs = {grid_hash(pair.output): pair.output for pair in task.train if pair.output is not None}
    counts = Counter(grid_hash(pair.output) for pair in task.train if pair.output is not None)
    return [outputs[key] for key, _ in counts.most_common()]


def background_answers(task: Task, grid: Grid) -> list[Grid]:
    """Answers with a grid of the test input's most common colour, in the size that the demonstrations suggest."""
    return [np.full(predict_output_size(task, grid), most_common_color(grid), dtype=np.uint8)]


def predict_output_size(task: Task, grid: Grid) -> tuple[int, int]:
    """Predicts the (height, width) of the answer to a test input.

    It is the input's size times the demonstrations' common ratio of output to input; if they have none, their common
    output size; if they have none either, the input's own size.
    """
    shapes = [(pair.input.shape, pair.output.shape) for pair in task.train if pair.output is not None]
    (source, target), *others = shapes
    if all(t[axis] * source[axis] == target[axis] * s[axis] for s, t in others for axis in (0, 1)):
        scaled = [grid.shape[axis] * target[axis] / source[axis] for axis in (0, 1)]
        if all(side == int(side) and 1 <= side <= MAX_SIDE for side in scaled):
            return int(scaled[0]), int(scaled[1])
    if all(t == target for _, t in others):
        return target[0], target[1]
    return grid.shape[0], grid.shape[1]


@dataclass(frozen=True)
class Baseline:
    """A Solver that answers by a fixed rule.

    Attributes:
        name: name in tables.
        rule: gives ranked answers to a test input of a task.
    """

    name: str
    rule: Rule

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        """Yields one prediction for each task, in order."""
        for task in tasks:
            start = time.perf_counter()
            answers = [self.rule(task, pair.input)[: budget.candidates] for pair in task.test]
            candidates = tuple(tuple(Candidate(grid) for grid in grids) for grids in answers)
            yield TaskPrediction(task.task_id, candidates, time.perf_counter() - start)


def _entry(name: str, rule: Rule) -> SolverEntry:
    def open_baseline(checkpoint: Path | None, device: str) -> OpenSolver:
        return OpenSolver(Baseline(name, rule))

    return SolverEntry(open_baseline, needs_checkpoint=False, baseline=True)


identity = _entry("identity", identity_answers)
most_common_output = _entry("most-common-output", common_output_answers)
