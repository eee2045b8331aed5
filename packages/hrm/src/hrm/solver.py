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
from arc_core.device import count_parameters, solving_autocast, solving_device
from arc_core.errors import InputError
from arc_core.extents import Ints
from arc_core.grid import MAX_SIDE, Grid
from arc_core.sampling import batches_by_canvas
from arc_core.solver import Budget, OpenSolver, SolverEntry, TaskPrediction
from arc_core.task import Task
from arc_core.tensors import TaskTensors
from arc_core.voting import vote, voting_views
from hrm.config import METHOD, TRAIN_COMMAND, HrmConfig
from hrm.data.batches import build_batch, choose_canvas
from hrm.data.identities import Examples, Identities
from hrm.inference import Puzzles, answer_puzzles
from hrm.losses import segment_losses
from hrm.model.model_with_embeddings import ModelWithEmbedding, build_model
from hrm.model.puzzle_embedding import PuzzleEmbedding, sign_sgd

_TASKS_PER_GROUP = 8  # tasks answered together; more fill batches better, fewer show and save results sooner
_CELLS_PER_FIT = 32 * 400


class HrmSolver:
    """Answers with the weights of one checkpoint."""

    def __init__(
        self,
        network: ModelWithEmbedding,
        config: HrmConfig,
        identities: Identities,
        transductive_ids: Sequence[str],
        device: torch.device,
    ) -> None:
        """Makes a solver of loaded weights.

        Args:
            network: in evaluation mode.
            config: of the checkpoint.
            identities: the views that the puzzle embedding has rows for.
            transductive_ids: ids of further tasks whose demonstrations were learnt.
            device: where the weights are.
        """
        self.network, self._config, self._identities, self._device = network, config, identities, device
        self._task_index = {task_id: index for index, task_id in enumerate(identities.task_ids)}
        self._learnt_ids = {*identities.task_ids, *transductive_ids}
        self.name = config.model.architecture

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        """Predicts every task in order; `seconds_per_task` is not used, as a task takes a fixed number of passes."""
        for start in range(0, len(tasks), _TASKS_PER_GROUP):
            group = tasks[start : start + _TASKS_PER_GROUP]
            start_time = time.perf_counter()
            answers_by_task = self._solve_group(group, budget)
            seconds = (time.perf_counter() - start_time) / len(group)
            for task, (views, answers) in zip(group, answers_by_task, strict=True):
                candidates = tuple(
                    vote(((view, *by_test[test]) for view, by_test in zip(views, answers, strict=True)),
                         budget.candidates)
                    for test in range(len(task.test))
                )  # fmt: skip
                is_learnt = task.task_id in self._learnt_ids
                passes = self._count_passes(task, len(views))
                yield TaskPrediction(task.task_id, candidates, seconds, len(views), is_learnt, passes)

    def _count_passes(self, task: Task, num_views: int) -> int:
        """Counts the forward passes that a task takes at most; `stop_early` saves some."""
        is_fitted = self.network.embedding is not None and task.task_id not in self._task_index
        fitting = self._config.evaluation.adapt_steps * len(task.train) if is_fitted else 0
        return num_views * (self._config.model.halt_max_steps * len(task.test) + fitting)

    def _solve_group(
        self, tasks: Sequence[Task], budget: Budget
    ) -> list[tuple[list[View], list[list[tuple[Grid, float]]]]]:
        """Returns for each task its views, and for each of them the answers to the task's tests."""
        tensors = TaskTensors.from_tasks(tasks, self._device)
        views_by_task = [self._choose_views(task, budget) for task in tasks]
        embeddings = self._collect_embeddings(tasks, tensors, views_by_task)
        pairs, elements, colors, embedding_rows = [], [], [], []
        embedding_row = 0
        for index, (task, views) in enumerate(zip(tasks, views_by_task, strict=True)):
            first_test = int(tensors.first_pair[index]) + len(task.train)
            for view in views:
                for test in range(len(task.test)):
                    pairs.append(first_test + test)
                    elements.append(view.dihedral)
                    colors.append(view.colors)
                    embedding_rows.append(embedding_row)
                embedding_row += 1
        puzzles = Puzzles.from_pairs(
            tensors, np.array(pairs, dtype=np.int64), np.array(elements, dtype=np.int64),
            np.array(colors, dtype=np.uint8),
        )  # fmt: skip
        row_of_puzzle = np.array(embedding_rows)

        def look_up_embeddings(indices: Ints) -> Tensor | None:
            if embeddings is None:
                return None
            return embeddings[torch.from_numpy(row_of_puzzle[indices]).to(embeddings.device)]

        full_canvas = self._config.data.canvas == "full"
        stop_early = self._config.evaluation.stop_early
        model = self.network.model
        with solving_autocast(self._device, self._config.precision):
            answers = iter(answer_puzzles(model, tensors, puzzles, look_up_embeddings, stop_early, full_canvas))
        return [
            (views, [[next(answers) for _ in task.test] for _ in views])
            for task, views in zip(tasks, views_by_task, strict=True)
        ]

    def _choose_views(self, task: Task, budget: Budget) -> list[View]:
        """Returns the views that a task was learnt in, or the voting views of a new task."""
        if task.task_id not in self._task_index:
            return voting_views(budget.dihedral_views, budget.color_views, budget.seed)
        return self._identities.views(self._task_index[task.task_id])[: budget.views]

    def _collect_embeddings(
        self, tasks: Sequence[Task], tensors: TaskTensors, views_by_task: Sequence[list[View]]
    ) -> Tensor | None:
        """Returns (sum of views, E) learnt or fitted embeddings, task after task; None where the model has none."""
        learnt = self.network.embedding
        if learnt is None:
            return None
        fitted = self._fit_embeddings(tasks, tensors, views_by_task)
        embeddings, start = [], 0
        for task, views in zip(tasks, views_by_task, strict=True):
            index = self._task_index.get(task.task_id)
            if index is None:
                embeddings.append(fitted[start : start + len(views)])
            else:
                first = 1 + int(self._identities.groups[index])
                embeddings.append(learnt.weights[first : first + len(views)])
            start += len(views)
        return torch.cat(embeddings)

    def _fit_embeddings(
        self, tasks: Sequence[Task], tensors: TaskTensors, views_by_task: Sequence[list[View]]
    ) -> Tensor:
        """Fits (sum of views, E) embeddings to the demonstrations, from blank ones; the network's weights stay.

        Rows of learnt tasks stay blank.
        """
        num_views = sum(map(len, views_by_task))
        embedding = PuzzleEmbedding(1 + num_views, self._config.model.puzzle_emb_ndim).to(self._device)
        identities = Identities.from_views([task.task_id for task in tasks], views_by_task)
        indices, pairs, start = [], [], 0
        for index, (task, views) in enumerate(zip(tasks, views_by_task, strict=True)):
            if task.task_id not in self._task_index:
                first_pair = int(tensors.first_pair[index])
                demonstrations = np.arange(first_pair, first_pair + len(task.train))
                pairs.append(np.tile(demonstrations, len(views)))
                indices.append(np.repeat(np.arange(start, start + len(views)), len(demonstrations)))
            start += len(views)
        if pairs and self._config.evaluation.adapt_steps:
            all_pairs = np.concatenate(pairs)
            examples = Examples(np.concatenate(indices), all_pairs, tensors.pair_sides[all_pairs])
            # In float16 the gradients would vanish without a scaler; only their signs matter.
            precision = "float32" if self._config.precision == "float16" else self._config.precision
            with solving_autocast(self._device, precision):
                self._run_sign_sgd(embedding, tensors, identities, examples)
        return embedding.weights[1:]

    def _run_sign_sgd(
        self, embedding: PuzzleEmbedding, tensors: TaskTensors, identities: Identities, examples: Examples
    ) -> None:
        """Fits an embedding in place, by full-batch steps on all examples."""
        evaluation, training = self._config.evaluation, self._config.training
        model = self.network.model
        canvases = choose_canvas(examples.sides)
        if self._config.data.canvas == "full":
            canvases = np.full_like(canvases, MAX_SIDE)
        for step in range(evaluation.adapt_steps):
            # From the full rate down to a tenth, so that the last signs settle what the first ones found.
            learning_rate = evaluation.adapt_lr * (1 - 0.9 * step / evaluation.adapt_steps)
            batch_gradients = []
            for side, rows in batches_by_canvas(canvases, _CELLS_PER_FIT):
                batch = build_batch(tensors, identities, examples.select(rows), side, model.prefix_tokens, None)
                puzzle_embeddings = embedding.gather_rows(batch.identities)
                with torch.enable_grad():
                    state = model.initial_state(*batch.tokens.shape)
                    _, output = model(state, batch.tokens, puzzle_embeddings, batch.positions)
                    loss = segment_losses(output, batch.labels, None, training.loss_type).lm
                    (gradient,) = torch.autograd.grad(loss, puzzle_embeddings)
                batch_gradients.append((batch.identities, gradient))
            ids, gradients = (torch.cat(parts) for parts in zip(*batch_gradients, strict=True))
            sign_sgd(embedding.weights, ids, gradients, learning_rate, 0.0)


class LoadedNetwork(NamedTuple):
    """A checkpoint's model and embedding in evaluation mode, and where they came from."""

    network: ModelWithEmbedding
    config: HrmConfig
    checkpoint: Checkpoint
    file: Path


def load_network(path: Path, device: str) -> LoadedNetwork:
    """Loads a checkpoint file, or a run folder's best checkpoint, with averaged weights if it has them.

    Raises:
        InputError: no checkpoint, not one of HRM, or the device is not there.
    """
    where = solving_device(device)
    file = resolve_checkpoint(path)
    checkpoint = load_checkpoint(file, METHOD)
    config, _ = build_config(HrmConfig, checkpoint.config, str(file))
    rows = checkpoint.model.get("puzzle_emb.weights")
    network = build_model(config, 0 if rows is None else len(rows))
    network.load(dict(checkpoint.model) | dict(checkpoint.ema), str(file))
    network.model.to(where).eval().requires_grad_(False)
    if network.embedding is not None:
        network.embedding.to(where)
    return LoadedNetwork(network, config, checkpoint, file)


def open_solver(path: Path | None, device: str) -> OpenSolver:
    """Opens the solver of a checkpoint, see `load_network`.

    Raises:
        InputError: there is no path, or see `load_network`.
    """
    if path is None:
        raise InputError(f"{METHOD} needs a checkpoint; train one with {TRAIN_COMMAND}")
    network, config, checkpoint, file = load_network(path, device)
    extras = cast(dict[str, Tensor], checkpoint.extras)
    arrays = [extras[name].numpy() for name in ("groups", "elements", "colors")]
    identities = Identities(tuple(cast(list[str], checkpoint.extras["task_ids"])), *arrays)
    transductive_ids = cast(list[str], checkpoint.extras["transductive_ids"])
    solver = HrmSolver(network, config, identities, transductive_ids, next(network.model.parameters()).device)
    # What was learnt transductively saw no test, so it is declared by task and is no overlap.
    parameters = count_parameters(network.model)
    return OpenSolver(solver, file, checkpoint.step, checkpoint.training_data, parameters)


entry = SolverEntry(open_solver, needs_checkpoint=True, train_command=TRAIN_COMMAND)
