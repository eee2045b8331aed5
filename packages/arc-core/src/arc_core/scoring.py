"""Scores ranked predictions by exact match, as the ARC Prize does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arc_core.grid import Grid, most_common_color
from arc_core.task import Task

ATTEMPTS = 2  # a test input counts as right if either of two attempts is exact (ARC Prize)


@dataclass(frozen=True)
class CellAccuracy:
    """Fractions, 0..1, of the target's cells that are right; a cell that the prediction lacks is wrong.

    Attributes:
        pixel: fraction of all cells.
        non_background: fraction of cells that differ from the target's most common colour; None if there are none.
    """

    pixel: float
    non_background: float | None


def is_exact(prediction: Grid | None, target: Grid) -> bool:
    """Whether a prediction has the target's size and cells; a missing prediction does not."""
    return prediction is not None and prediction.shape == target.shape and bool((prediction == target).all())


def score_tests(ranked: Sequence[Sequence[Grid]], task: Task, attempts: int = ATTEMPTS) -> list[bool]:
    """Returns whether one of the first `attempts` candidates is exact, for each test input.

    Args:
        ranked: candidates for each test input, best first; missing test inputs and candidates count as wrong.
        task: the task with its test outputs.
        attempts: number of candidates to look at, 1 or more.
    Raises:
        ValueError: the task's answers are withheld, or there are predictions for test inputs that it does not have.
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
    """Returns the fraction of the task's test inputs that are right.

    Args:
        ranked, task, attempts: as for `score_tests`.
    Source: ARC Prize rules: the total is the mean over tasks of this fraction.
    """
    solved = score_tests(ranked, task, attempts)
    return sum(solved) / len(solved)


def cell_accuracy(prediction: Grid | None, target: Grid) -> CellAccuracy:
    """Computes the fractions of the target's cells that the prediction has right."""
    right = np.zeros(target.shape, dtype=bool)
    if prediction is not None:
        height, width = (min(a, b) for a, b in zip(prediction.shape, target.shape, strict=True))
        right[:height, :width] = prediction[:height, :width] == target[:height, :width]
    foreground = target != most_common_color(target)
    return CellAccuracy(float(right.mean()), float(right[foreground].mean()) if foreground.any() else None)
