"""Scores the model's answers and those of baselines that learn nothing. The package's README explains every metric."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from arc_core.augment import View
from arc_core.baselines import background_answers, identity_answers
from arc_core.grid import Grid, most_common_color
from arc_core.scoring import cell_accuracy, is_exact
from arc_core.task import Task
from arc_core.tensors import TaskTensors
from rlan.data.queries import build_test_queries
from rlan.inference import Diagnostics, Model, answer_queries


@dataclass(frozen=True)
class ScoredTasks:
    """Tasks to score a model on.

    Attributes:
        tasks: the tasks with their test outputs, which are used for scoring only.
        tensors: the same tasks without their test outputs, for the model.
    """

    tasks: Sequence[Task]
    tensors: TaskTensors

    @classmethod
    def from_tasks(cls, tasks: Sequence[Task], device: torch.device) -> "ScoredTasks":
        """Puts tasks on a device."""
        return cls(tasks, TaskTensors.from_tasks([task.without_answers() for task in tasks], device))


def compute_grid_metrics(tasks: Sequence[Task], answers: Sequence[Grid]) -> dict[str, float]:
    """Compares answers with test outputs; task_accuracy is a mean over tasks, all others are over test inputs.

    Args:
        tasks: tasks with test outputs.
        answers: one grid for every test input of every task, in order.
    """
    remaining = iter(answers)
    exact_by_task, rows = [], []
    for task in tasks:
        exact = []
        for pair in task.test:
            grid, target = next(remaining), pair.output
            assert target is not None
            exact.append(is_exact(grid, target))
            cells, background = cell_accuracy(grid, target), most_common_color(target)
            rows.append(
                (
                    cells.pixel,
                    np.nan if cells.non_background is None else cells.non_background,
                    float(grid.shape == target.shape),
                    float((grid == background).mean()),
                    float((target == background).mean()),
                    len(np.unique(grid)),
                    len(np.unique(target)),
                )
            )
        exact_by_task.append(np.mean(exact))
    names = ("pixel_accuracy", "non_bg_accuracy", "size_accuracy", "bg_ratio_pred", "bg_ratio_target")
    means = np.nanmean(np.array(rows), axis=0).tolist()
    return {"task_accuracy": float(np.mean(exact_by_task))} | dict(
        zip((*names, "colors_used", "colors_target"), means, strict=True)
    )


def evaluate_model(model: Model, scored: ScoredTasks, max_demonstrations: int, stablemax: bool) -> dict[str, float]:
    """Answers all test inputs in the identity view and returns `compute_grid_metrics` and the means of `Diagnostics`.

    Args:
        model: a model in evaluation mode.
        scored: the tasks.
        max_demonstrations: the most demonstrations shown with a test input.
        stablemax: read the logits as stablemax, not softmax.
    """
    diagnostics = Diagnostics()
    queries = build_test_queries(scored.tensors, range(len(scored.tasks)), max_demonstrations, View())
    answers = answer_queries(model, scored.tensors, queries, stablemax, diagnostics=diagnostics)
    return compute_grid_metrics(scored.tasks, [grid for grid, _ in answers]) | diagnostics.means()


def evaluate_baselines(tasks: Sequence[Task]) -> dict[str, dict[str, float]]:
    """Returns `compute_grid_metrics` of two answers without learning: the input itself, and the constant background."""
    rules = {"identity": identity_answers, "background": background_answers}
    return {
        name: compute_grid_metrics(tasks, [rule(task, pair.input)[0] for task in tasks for pair in task.test])
        for name, rule in rules.items()
    }
