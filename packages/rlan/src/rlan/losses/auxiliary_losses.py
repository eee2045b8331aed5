"""What leave-one-out and equivariance training add to a step.

B batch.
"""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from arc_core.tensors import TaskTensors
from rlan.config import RlanConfig
from rlan.data.queries import Queries
from rlan.inference import Model
from rlan.losses.equivariance import equivariance, other_elements
from rlan.losses.leave_one_out import leave_one_out, left_out_queries
from rlan.model.hyperlora import delta_metrics
from rlan.model.rlan import Outputs, Rlan


def meta_losses(
    config: RlanConfig,
    models: tuple[Model, Rlan],
    tensors: TaskTensors,
    queries: Queries,
    outputs: Outputs,
    draws: npt.NDArray[np.float64],
    with_gain: bool,
) -> tuple[Tensor, dict[str, float]]:
    """The weighted losses that are switched on, and their metrics.

    Args:
        models: the model as training calls it, wrapped or compiled, and the same bare.
        outputs: of the queries.
        draws: (B, 8) in 0..1: the demonstration left out, and the turns.
        with_gain: measure what HyperLoRA adds on left-out demonstrations.
    """
    forward, model = models
    loo, turned = config.loo_training, config.equivariance_training
    loss, metrics = outputs.logits.new_zeros(()), delta_metrics(outputs.deltas)
    if loo.enabled:
        left, skipped = left_out_queries(tensors, queries, loo.min_pairs_for_loo, draws[:, 0])
        metrics["loo_skipped_ratio"] = skipped
        if left is not None:
            found = leave_one_out(forward, tensors, left, config.training, with_gain)
            # Weighted by the share of queries, so that parts and processes of other shares add up to the mean.
            loss = loss + loo.loss_weight * (1 - skipped) * found.loss
            metrics |= found.metrics
    if turned.enabled:
        elements = other_elements(draws[:, 1:])[: turned.num_augmentations]
        disagreement, measured = equivariance(forward, model.deltas, tensors, queries, outputs, elements)
        loss = loss + turned.loss_weight * disagreement
        metrics |= measured
    return loss, metrics
