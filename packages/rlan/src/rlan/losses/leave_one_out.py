"""Leave-one-out training: a demonstration becomes the query and the others its context, end to end.

B batch, N demonstrations.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arc_core.tensors import TaskTensors
from rlan.config import LossMode, TrainingConfig
from rlan.data.queries import NO_PAIR, Queries, training_extents
from rlan.decode import decode
from rlan.inference import Model
from rlan.losses.objective import Targets, cell_weights, task_loss, training_batch, uses_stablemax
from rlan.model.layers import extent_mask


def left_out_queries(
    tensors: TaskTensors, queries: Queries, min_pairs: int, draws: npt.NDArray[np.float64]
) -> tuple[Queries | None, float]:
    """One left-out demonstration of each query that shows enough of them.

    Args:
        min_pairs: 2 or more.
        draws: (B,) in 0..1, which demonstration is left out.
    Returns:
        The new queries (None if every one is skipped), which show neither the old nor the new answer, and the share
        of queries skipped.
    """
    shown = (queries.demos >= 0).sum(axis=1)
    kept = np.flatnonzero(shown >= min_pairs)
    skipped = 1 - len(kept) / len(queries)
    if len(kept) == 0:
        return None, skipped
    rest, column = queries.rows(kept), (draws[kept] * shown[kept]).astype(np.int64)
    rows = np.arange(len(kept))
    pairs, demos = rest.demos[rows, column], rest.demos.copy()
    demos[rows, column] = demos[rows, shown[kept] - 1]  # pairs are a set: the last one fills the gap
    demos[rows, shown[kept] - 1] = NO_PAIR
    live = training_extents(tensors, pairs, demos, rest.elements)
    return Queries(pairs, demos, rest.elements, rest.colors, live).trimmed(), skipped


@dataclass(frozen=True)
class LeftOut:
    """Results on left-out demonstrations.

    Attributes:
        loss: scalar, the last step's task loss.
        metrics: loo_loss, loo_accuracy (cells), loo_exact (whole grids, size found by the model), and loo_gain if asked
            for (how much higher the loss is without HyperLoRA's changes).
    """

    loss: Tensor
    metrics: dict[str, float]


def leave_one_out(
    model: Model, tensors: TaskTensors, queries: Queries, training: TrainingConfig, with_gain: bool = False
) -> LeftOut:
    """Loss and accuracies of a model on the queries of `left_out_queries`.

    Args:
        with_gain: answer once more without HyperLoRA's changes.
    """
    inputs, targets = training_batch(tensors, queries)
    weights = cell_weights(targets, inputs.live, training.far_outside_weight)

    def loss_of(logits: Tensor) -> Tensor:
        last = logits[:, -1:]
        mode, alpha, gamma = training.loss_mode, training.focal_alpha, training.focal_gamma
        return task_loss(last, targets, weights, mode, alpha, gamma).mean()

    logits = model(inputs).logits
    loss = loss_of(logits)
    cells, exact = _accuracies(logits[:, -1].detach(), targets, inputs.live, training.loss_mode)
    metrics = {"loo_loss": loss.item(), "loo_accuracy": cells, "loo_exact": exact}
    if with_gain:
        with torch.no_grad():
            metrics["loo_gain"] = loss_of(model(inputs, adapt=False).logits).item() - metrics["loo_loss"]
    return LeftOut(loss, metrics)


def _accuracies(logits: Tensor, targets: Targets, live: Tensor, mode: LossMode) -> tuple[float, float]:
    found = decode(logits, live, uses_stablemax(mode))
    inside = extent_mask(targets.sizes, logits.shape[1])
    right = (found.colors == targets.cells) & extent_mask(found.sizes, logits.shape[1]) & inside
    by_sample = right.sum((1, 2)) / inside.sum((1, 2))
    exact = (by_sample == 1) & (found.sizes == targets.sizes).all(dim=1)
    return float(by_sample.mean()), float(exact.float().mean())
