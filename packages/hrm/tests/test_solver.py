"""Solving with a trained checkpoint."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arc_core.grid import Grid
from arc_core.solver import Budget
from arc_core.task import Task
from hrm.solver import open_solver

Make = Callable[..., Task]


@pytest.mark.slow
def test_learnt_tasks_are_answered_in_their_own_views_and_new_ones_with_fitted_embeddings(
    trained: tuple[Path, list[Task]], random_task: Make
) -> None:
    path, tasks = trained
    opened = open_solver(path, "cpu")
    assert opened.training_data == ("made",)
    new = random_task([((3, 3), (2, 2))] * 3, seed=9, task_id="new")
    budget = Budget(dihedral_views=2, color_views=2)
    predictions = list(opened.solver.solve([task.without_answers() for task in [*tasks, new]], budget))
    assert [p.task_id for p in predictions] == ["t0", "t1", "new"]
    assert [p.views for p in predictions] == [2, 2, 4]
    assert [p.transductive for p in predictions] == [True, True, False]
    for prediction, task in zip(predictions[:2], tasks, strict=True):  # its tests were among the training pairs
        best: Grid = prediction.candidates[0][0].grid
        assert np.array_equal(best, task.test[0].output)  # type: ignore[arg-type]
    assert all(0 <= c.confidence <= 1 for p in predictions for row in p.candidates for c in row)
    again = next(iter(opened.solver.solve([new.without_answers()], budget)))
    assert [c.grid.tolist() for c in again.candidates[0]] == [c.grid.tolist() for c in predictions[2].candidates[0]]
