"""Leave-one-out training: one demonstration becomes the query and the others its context, trained end to end.

B batch, N demonstrations, S canvas side, C = 11 classes.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arc_core.tensors import TaskTensors
from rlan.config import LossMode, TrainingConfig
from rlan.data.queries import NO_PAIR, Queries, training_extents
from rlan.decode import decode
from rlan.inference import Model
from rlan.losses.objective import Targets, build_training_batch, cell_weights, task_loss, uses_stablemax
from rlan.model.hyperlora import widen
from rlan.model.layers import extent_mask


def build_leave_one_out_queries(
    tensors: TaskTensors, queries: Queries, min_pairs: int, draws: npt.NDArray[np.float64]
) -> tuple[Queries | None, float]:
    """Turns one demonstration of each query into a new query; the original query is not shown with it.

    Args:
        tensors: training tasks with all answers.
        queries: B queries.
        min_pairs: queries that show fewer demonstrations are skipped; 2 or more.
        draws: (B,) uniform in 0..1, choose the demonstration that is left out.
    Returns:
        The new queries (None if all are skipped), and the share of queries skipped.
    """
    num_shown = (queries.demos >= 0).sum(axis=1)
    kept = np.flatnonzero(num_shown >= min_pairs)
    skipped_ratio = 1 - len(kept) / len(queries)
    if len(kept) == 0:
        return None, skipped_ratio
    rest, column = queries.select(kept), (draws[kept] * num_shown[kept]).astype(np.int64)
    rows = np.arange(len(kept))
    pairs, demos = rest.demos[rows, column], rest.demos.copy()
    demos[rows, column] = demos[rows, num_shown[kept] - 1]  # pairs are a set: the last one fills the gap
    demos[rows, num_shown[kept] - 1] = NO_PAIR
    answer_extent = training_extents(tensors, pairs, demos, rest.elements)
    return Queries(pairs, demos, rest.elements, rest.colors, answer_extent).trim_padding(), skipped_ratio


def leave_one_out_loss(
    model: Model, tensors: TaskTensors, queries: Queries, training: TrainingConfig, with_gain: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Computes the task loss and accuracies on left-out demonstrations.

    Args:
        model: the model as training calls it.
        tensors: training tasks with all answers.
        queries: queries of `build_leave_one_out_queries`.
        training: the config's section, for the loss mode and its parameters.
        with_gain: run the model once more without HyperLoRA's weight changes, to measure what they gain.
    Returns:
        loss: scalar, the task loss of the last solver step.
        metrics: scalars loo_loss, loo_accuracy (cells), loo_exact (whole grids, size chosen by the model), and
            loo_gain if asked for (how much higher the loss is without HyperLoRA's changes).
    """
    inputs, targets = build_training_batch(tensors, queries)
    weights = cell_weights(targets, inputs.answer_extent, training.far_outside_weight)

    def last_step_loss(logits: Tensor) -> Tensor:
        mode, alpha, gamma = training.loss_mode, training.focal_alpha, training.focal_gamma
        return task_loss(logits[:, -1:], targets, weights, mode, alpha, gamma).mean()

    logits = model(inputs).logits
    loss = last_step_loss(logits)
    cells, exact = _compute_accuracies(logits[:, -1].detach(), targets, inputs.answer_extent, training.loss_mode)
    metrics = {"loo_loss": loss.detach(), "loo_accuracy": cells, "loo_exact": exact}
    if with_gain:
        with torch.no_grad():
            metrics["loo_gain"] = widen(last_step_loss(model(inputs, adapt=False).logits)) - widen(metrics["loo_loss"])
    return loss, metrics


def _compute_accuracies(
    logits: Tensor, targets: Targets, answer_extent: Tensor, mode: LossMode
) -> tuple[Tensor, Tensor]:
    """Returns the mean share of right cells and the share of exact answers of (B, S, S, C) logits."""
    answers = decode(logits, answer_extent, uses_stablemax(mode))
    inside = extent_mask(targets.sizes, logits.shape[1])
    is_right = (answers.colors == targets.cells) & extent_mask(answers.sizes, logits.shape[1]) & inside
    right_ratio = is_right.sum((1, 2)) / inside.sum((1, 2))
    exact = (right_ratio == 1) & (answers.sizes == targets.sizes).all(dim=1)
    return right_ratio.mean(), exact.float().mean()
