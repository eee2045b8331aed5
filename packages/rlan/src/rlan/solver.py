"""RLAN as a Solver: answers many views of each task, in batches across tasks, and votes on the answers."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from arc_core.augment import View
from arc_core.checkpoint import load_checkpoint, resolve_checkpoint
from arc_core.config import build_config
from arc_core.device import count_parameters, solving_autocast, solving_device
from arc_core.errors import InputError
from arc_core.grid import Grid
from arc_core.solver import Budget, OpenSolver, SolverEntry, TaskPrediction
from arc_core.task import Task
from arc_core.tensors import TaskTensors
from arc_core.voting import vote, voting_views
from rlan.config import METHOD, TRAIN_COMMAND, RlanConfig
from rlan.data.queries import Queries, build_test_queries
from rlan.inference import answer_queries
from rlan.losses.objective import uses_stablemax
from rlan.model.rlan import Rlan, load_weights

_TASKS_PER_GROUP = 8  # tasks answered together; more fill batches better, fewer show and save results sooner


class RlanSolver:
    """Solves tasks with the weights of one checkpoint."""

    name = METHOD

    def __init__(self, model: Rlan, config: RlanConfig, device: torch.device) -> None:
        self.model, self._config, self._device = model, config, device

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        """Yields one prediction for each task, in order.

        `budget.seconds_per_task` has no effect, since a task takes a fixed number of forward passes.
        """
        best_step = budget.use_best_step or self._config.inference.use_best_step_selection
        views = voting_views(budget.dihedral_views, budget.color_views, budget.seed)
        for start in range(0, len(tasks), _TASKS_PER_GROUP):
            group = tasks[start : start + _TASKS_PER_GROUP]
            began = time.perf_counter()
            answers = self._answer_views(group, views, best_step)
            seconds = (time.perf_counter() - began) / len(group)
            for task, answers_by_test in zip(group, answers, strict=True):
                candidates = tuple(
                    vote(((view, *answer) for view, answer in zip(views, by_view, strict=True)), budget.candidates)
                    for by_view in answers_by_test
                )
                passes = len(views) * len(task.test)
                yield TaskPrediction(task.task_id, candidates, seconds, len(views), forward_passes=passes)

    def _answer_views(
        self, tasks: Sequence[Task], views: Sequence[View], best_step: bool
    ) -> list[list[list[tuple[Grid, float]]]]:
        """Returns the grid and its confidence in every view, by task, test input and view."""
        tensors = TaskTensors.from_tasks(tasks, self._device)
        limit = self._config.data.max_demonstrations
        by_view = [build_test_queries(tensors, range(len(tasks)), limit, view) for view in views]
        stablemax = uses_stablemax(self._config.training.loss_mode)
        with solving_autocast(self._device, self._config.precision):
            flat = answer_queries(self.model, tensors, _concatenate(by_view), stablemax, best_step)
        count = len(by_view[0])
        rows = iter(range(count))
        return [[flat[next(rows) :: count] for _ in task.test] for task in tasks]


def _concatenate(parts: Sequence[Queries]) -> Queries:
    names = [field.name for field in fields(Queries)]
    return Queries(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def open_solver(path: Path | None, device: str) -> OpenSolver:
    """Opens the solver of a checkpoint file, or of a run folder's best checkpoint.

    Args:
        path: the file or folder; None is refused, with the command that trains a checkpoint.
        device: "auto", "cpu", "cuda" or "mps".
    Raises:
        InputError: there is no checkpoint, it is not one of RLAN, or the device is not available.
    """
    if path is None:
        raise InputError(f"{METHOD} needs a checkpoint; train one with {TRAIN_COMMAND}")
    torch_device = solving_device(device)
    file = resolve_checkpoint(path)
    checkpoint = load_checkpoint(file, METHOD)
    config, _ = build_config(RlanConfig, checkpoint.config, str(file))
    model = Rlan(config.model)
    load_weights(model, checkpoint, averaged=True)
    solver = RlanSolver(model.to(torch_device).eval(), config, torch_device)
    return OpenSolver(solver, file, checkpoint.step, checkpoint.training_data, count_parameters(model))


entry = SolverEntry(open_solver, needs_checkpoint=True, train_command=TRAIN_COMMAND)
