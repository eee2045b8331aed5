"""Exact match, pass@k and the ARC Prize score of ranked predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arc_core.grid import Grid, most_common_color
from arc_core.task import Task

ATTEMPTS = 2  # a test input counts as right when either of two attempts is exact (ARC Prize)


@dataclass(frozen=True)
class CellAccuracy:
    """Fractions in 0..1 over the cells of the target; a cell that the prediction does not have is wrong.

    Attributes:
        pixel: over all cells.
        non_background: over cells that differ from the target's most common colour; None if there are none.
    """

    pixel: float
    non_background: float | None


def is_exact(prediction: Grid | None, target: Grid) -> bool:
    """Same size and same cells; a missing prediction is wrong."""
    return prediction is not None and prediction.shape == target.shape and bool((prediction == target).all())


def score_tests(ranked: Sequence[Sequence[Grid]], task: Task, attempts: int = ATTEMPTS) -> list[bool]:
    """Whether one of the first `attempts` candidates is exact, per test input.

    Args:
        ranked: candidates per test input, best first; missing test inputs and candidates count as wrong,
            candidates past `attempts` are not looked at.
        task: with its test outputs.
        attempts: 1 or more.
    Raises:
        ValueError: the task's answers are withheld, or there are predictions for tests that it does not have.
    """
    if len(ranked) > len(task.test):
        raise ValueError(f"task {task.task_id} has {len(task.test)} test inputs; got predictions for {len(ranked)}")
    solved = []
    for index, pair in enumerate(task.test):
        if pair.output is None:
            raise ValueError(f"task {task.task_id}, test {index}: scoring needs the output, which is withheld")
        candidates = ranked[index] if index < len(ranked) else ()
        solved.append(any(is_exact(grid, pair.output) for grid in candidates[:attempts]))
    return solved


def task_score(ranked: Sequence[Sequence[Grid]], task: Task, attempts: int = ATTEMPTS) -> float:
    """Fraction of the task's test inputs that are right.

    Source: ARC Prize rules: the total is the mean over tasks of this fraction.
    """
    solved = score_tests(ranked, task, attempts)
    return sum(solved) / len(solved)


def cell_accuracy(prediction: Grid | None, target: Grid) -> CellAccuracy:
    """How much of the target's extent the prediction has right."""
    right = np.zeros(target.shape, dtype=bool)
    if prediction is not None:
        height, width = (min(a, b) for a, b in zip(prediction.shape, target.shape, strict=True))
        right[:height, :width] = prediction[:height, :width] == target[:height, :width]
    foreground = target != most_common_color(target)
    return CellAccuracy(float(right.mean()), float(right[foreground].mean()) if foreground.any() else None)
