"""How good answers are, beside answers that need no learning. Every name is explained in the package's README."""

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
from rlan.data.queries import solving_queries
from rlan.inference import Diagnostics, Model, answer


@dataclass(frozen=True)
class Scored:
    """Tasks, their tensors, and which of them to score.

    Attributes:
        tasks: with their test outputs, which serve for scoring alone.
        tensors: the same tasks.
    """

    tasks: Sequence[Task]
    tensors: TaskTensors

    @classmethod
    def of(cls, tasks: Sequence[Task], device: torch.device) -> "Scored":
        """The tasks on a device."""
        return cls(tasks, TaskTensors.from_tasks([task.without_answers() for task in tasks], device))


def grid_metrics(tasks: Sequence[Task], answers: Sequence[Grid]) -> dict[str, float]:
    """Means over tasks (task_accuracy) and test inputs (the others).

    Args:
        answers: one grid for every test input of every task, in order.
    """
    waiting = iter(answers)
    exact_by_task, rows = [], []
    for task in tasks:
        exact = []
        for pair in task.test:
            grid, target = next(waiting), pair.output
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


def model_metrics(model: Model, scored: Scored, max_demonstrations: int, stablemax: bool) -> dict[str, float]:
    """`grid_metrics` of the model's answers in the identity view, and what it did inside."""
    diagnostics = Diagnostics()
    queries = solving_queries(scored.tensors, range(len(scored.tasks)), max_demonstrations, View())
    answers = answer(model, scored.tensors, queries, stablemax, diagnostics=diagnostics)
    return grid_metrics(scored.tasks, [grid for grid, _ in answers]) | diagnostics.means()


def baseline_metrics(tasks: Sequence[Task]) -> dict[str, dict[str, float]]:
    """The same figures for the identity and for the constant background."""
    rules = {"identity": identity_answers, "background": background_answers}
    return {
        name: grid_metrics(tasks, [rule(task, pair.input)[0] for task in tasks for pair in task.test])
        for name, rule in rules.items()
    }
