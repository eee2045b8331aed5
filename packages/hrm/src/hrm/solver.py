"""HRM, TRM or the transformer as a Solver.

A task that was learnt, in training or transductively, is answered in the views it was learnt in, each with its own
embedding. For any other task an embedding of each voting view is fitted to the task's demonstrations.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from arc_core.augment import View
from arc_core.checkpoint import Checkpoint, load_checkpoint, resolve_checkpoint
from arc_core.config import build_config
from arc_core.device import count_parameters, solving_device
from arc_core.errors import InputError
from arc_core.extents import Ints
from arc_core.grid import MAX_SIDE
from arc_core.sampling import batches_by_canvas
from arc_core.solver import Budget, OpenSolver, SolverEntry, TaskPrediction
from arc_core.task import Task
from arc_core.tensors import TaskTensors
from arc_core.voting import vote, voting_views
from hrm.config import METHOD, TRAIN_COMMAND, HrmConfig
from hrm.data.batches import build_batch, canvas_of
from hrm.data.identities import Examples, Identities
from hrm.inference import Puzzles, answer
from hrm.losses import segment_losses
from hrm.model.model_with_embeddings import Networks, build_networks
from hrm.model.puzzle_embedding import PuzzleEmbedding, sign_sgd

_TASKS_A_STREAM = 8  # tasks answered together; more fill batches better, fewer show and save results sooner
_CELLS_A_FIT = 32 * 400


class HrmSolver:
    """Answers with the weights of one checkpoint."""

    def __init__(
        self, networks: Networks, config: HrmConfig, known: Identities, seen: Sequence[str], device: torch.device
    ) -> None:
        """A solver of opened networks.

        Args:
            known: what the embedding has rows for.
            seen: ids of further tasks whose demonstrations were learnt.
        """
        self.networks, self._config, self._known, self._device = networks, config, known, device
        self._place = {task_id: index for index, task_id in enumerate(known.task_ids)}
        self._seen = {*known.task_ids, *seen}
        self.name = config.model.architecture

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        """One prediction a task, in order; `seconds_per_task` is not used, a task takes a fixed number of passes."""
        for start in range(0, len(tasks), _TASKS_A_STREAM):
            group = tasks[start : start + _TASKS_A_STREAM]
            began = time.perf_counter()
            found = self._solve_group(group, budget)
            seconds = (time.perf_counter() - began) / len(group)
            for task, (views, answers) in zip(group, found, strict=True):
                candidates = tuple(
                    vote(((view, *by_view[test]) for view, by_view in zip(views, answers, strict=True)),
                         budget.candidates)
                    for test in range(len(task.test))
                )  # fmt: skip
                seen = task.task_id in self._seen
                yield TaskPrediction(
                    task.task_id, candidates, seconds, len(views), seen, self._passes(task, len(views))
                )

    def _passes(self, task: Task, views: int) -> int:
        """Forward passes of a task at most: `stop_early` saves some."""
        fits = self.networks.embedding is not None and task.task_id not in self._place
        fitting = self._config.evaluation.adapt_steps * len(task.train) if fits else 0
        return views * (self._config.model.halt_max_steps * len(task.test) + fitting)

    def _solve_group(
        self, tasks: Sequence[Task], budget: Budget
    ) -> list[tuple[list[View], list[list[tuple[np.ndarray, float]]]]]:
        """By task: its views, and for each of them the answers to its tests."""
        tensors = TaskTensors.from_tasks(tasks, self._device)
        views = [self._views(task, budget) for task in tasks]
        rows = self._embeddings(tasks, tensors, views)
        pairs, elements, colors, owners = [], [], [], []
        owner = 0
        for number, (task, seen) in enumerate(zip(tasks, views, strict=True)):
            first = int(tensors.first_pair[number]) + len(task.train)
            for view in seen:
                for test in range(len(task.test)):
                    pairs.append(first + test)
                    elements.append(view.dihedral)
                    colors.append(view.colors)
                    owners.append(owner)
                owner += 1
        puzzles = Puzzles.of(
            tensors, np.array(pairs, dtype=np.int64), np.array(elements, dtype=np.int64),
            np.array(colors, dtype=np.uint8),
        )  # fmt: skip
        owner_of = np.array(owners)

        def lookup(numbers: Ints) -> Tensor | None:
            return None if rows is None else rows[torch.from_numpy(owner_of[numbers]).to(rows.device)]

        full = self._config.data.canvas == "full"
        stop_early = self._config.evaluation.stop_early
        flat = iter(answer(self.networks.model, tensors, puzzles, lookup, stop_early, full))
        return [
            (seen, [[next(flat) for _ in task.test] for _ in seen]) for task, seen in zip(tasks, views, strict=True)
        ]

    def _views(self, task: Task, budget: Budget) -> list[View]:
        if task.task_id not in self._place:
            return voting_views(budget.dihedral_views, budget.color_views, budget.seed)
        return self._known.views(self._place[task.task_id])[: budget.views]

    def _embeddings(self, tasks: Sequence[Task], tensors: TaskTensors, views: Sequence[list[View]]) -> Tensor | None:
        """(sum of views, E) embeddings, a task's views after each other."""
        learnt = self.networks.embedding
        if learnt is None:
            return None
        fitted = self._fitted(tasks, tensors, views)
        rows, done = [], 0
        for task, seen in zip(tasks, views, strict=True):
            place = self._place.get(task.task_id)
            if place is None:
                rows.append(fitted[done : done + len(seen)])
            else:
                first = 1 + int(self._known.groups[place])
                rows.append(learnt.weights[first : first + len(seen)])
            done += len(seen)
        return torch.cat(rows)

    def _fitted(self, tasks: Sequence[Task], tensors: TaskTensors, views: Sequence[list[View]]) -> Tensor:
        """(sum of views, E) embeddings fitted to the demonstrations by sign-SGD, from blank; the network stays.

        Rows of learnt tasks stay blank.
        """
        flat = [view for seen in views for view in seen]
        embedding = PuzzleEmbedding(1 + len(flat), self._config.model.puzzle_emb_ndim).to(self._device)
        identities = Identities.of_views([task.task_id for task in tasks], views)
        numbers, pairs, done = [], [], 0
        for number, (task, seen) in enumerate(zip(tasks, views, strict=True)):
            if task.task_id not in self._place:
                first = int(tensors.first_pair[number])
                shown = np.arange(first, first + len(task.train))
                pairs.append(np.tile(shown, len(seen)))
                numbers.append(np.repeat(np.arange(done, done + len(seen)), len(shown)))
            done += len(seen)
        if pairs and self._config.evaluation.adapt_steps:
            chosen = np.concatenate(pairs)
            examples = Examples(np.concatenate(numbers), chosen, tensors.pair_sides[chosen])
            self._fit(embedding, tensors, identities, examples)
        return embedding.weights[1:]

    def _fit(
        self, embedding: PuzzleEmbedding, tensors: TaskTensors, identities: Identities, examples: Examples
    ) -> None:
        evaluation, training = self._config.evaluation, self._config.training
        model = self.networks.model
        canvases = canvas_of(examples.sides)
        if self._config.data.canvas == "full":
            canvases = np.full_like(canvases, MAX_SIDE)
        for step in range(evaluation.adapt_steps):
            # From the full rate down to a tenth, so that the last signs settle what the first ones found.
            rate = evaluation.adapt_lr * (1 - 0.9 * step / evaluation.adapt_steps)
            touched = []
            for side, rows in batches_by_canvas(canvases, _CELLS_A_FIT):
                batch = build_batch(tensors, identities, examples.rows(rows), side, model.prefix, None)
                puzzles = embedding.rows(batch.identities)
                with torch.enable_grad():
                    _, found = model(model.start(*batch.tokens.shape), batch.tokens, puzzles, batch.positions)
                    loss = segment_losses(found, batch.labels, None, training.loss_type).answer
                    (gradient,) = torch.autograd.grad(loss, puzzles)
                touched.append((batch.identities, gradient))
            ids, gradients = (torch.cat(parts) for parts in zip(*touched, strict=True))
            sign_sgd(embedding.weights, ids, gradients, rate, 0.0)


class Opened(NamedTuple):
    """A checkpoint's networks in evaluation mode, and where they came from."""

    networks: Networks
    config: HrmConfig
    checkpoint: Checkpoint
    file: Path


def open_networks(path: Path, device: str) -> Opened:
    """The networks of a checkpoint file, or of a run folder's best checkpoint, with averaged weights if it has them.

    Raises:
        InputError: no checkpoint, not one of HRM, or the device is not there.
    """
    where = solving_device(device)
    file = resolve_checkpoint(path)
    checkpoint = load_checkpoint(file, METHOD)
    config, _ = build_config(HrmConfig, checkpoint.config, str(file))
    rows = checkpoint.model.get("puzzle_emb.weights")
    networks = build_networks(config, 0 if rows is None else len(rows))
    networks.load(dict(checkpoint.model) | dict(checkpoint.ema), str(file))
    networks.model.to(where).eval().requires_grad_(False)
    if networks.embedding is not None:
        networks.embedding.to(where)
    return Opened(networks, config, checkpoint, file)


def open_solver(path: Path | None, device: str) -> OpenSolver:
    """The solver of a checkpoint; see `open_networks`."""
    if path is None:
        raise InputError(f"{METHOD} needs a checkpoint; train one with {TRAIN_COMMAND}")
    networks, config, checkpoint, file = open_networks(path, device)
    extras = cast(dict[str, Tensor], checkpoint.extras)
    arrays = [extras[name].cpu().numpy() for name in ("groups", "elements", "colors")]
    known = Identities(tuple(cast(list[str], checkpoint.extras["task_ids"])), *arrays)
    seen = cast(list[str], checkpoint.extras["transductive_ids"])
    solver = HrmSolver(networks, config, known, seen, next(networks.model.parameters()).device)
    # What was learnt transductively saw no test, so it is declared by task and is no overlap.
    parameters = count_parameters(networks.model)
    return OpenSolver(solver, file, checkpoint.step, checkpoint.training_data, parameters)


entry = SolverEntry(open_solver, needs_checkpoint=True, train_command=TRAIN_COMMAND)
