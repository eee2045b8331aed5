"""Auxiliary losses of a training step: leave-one-out and equivariance training.

B batch.
"""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from arc_core.tensors import TaskTensors
from rlan.config import RlanConfig
from rlan.data.queries import Queries
from rlan.inference import Model
from rlan.losses.equivariance import equivariance_loss, nonidentity_elements
from rlan.losses.leave_one_out import build_leave_one_out_queries, leave_one_out_loss
from rlan.model.hyperlora import delta_metrics
from rlan.model.rlan import Outputs, Rlan


def compute_auxiliary_losses(
    config: RlanConfig,
    models: tuple[Model, Rlan],
    tensors: TaskTensors,
    queries: Queries,
    outputs: Outputs,
    draws: npt.NDArray[np.float64],
    with_gain: bool,
) -> tuple[Tensor, dict[str, Tensor | float]]:
    """Computes the auxiliary losses that are switched on.

    Args:
        config: the run's config; the sections `loo_training` and `equivariance_training` switch the losses on.
        models: the model as training calls it (wrapped or compiled), and the bare model.
        tensors: training tasks with all answers.
        queries: B training queries.
        outputs: the model's outputs for these queries.
        draws: (B, 8) uniform in 0..1: the first chooses the left-out demonstration, the others the dihedral elements.
        with_gain: also measure how much HyperLoRA lowers the loss on left-out demonstrations.
    Returns:
        loss: scalar, weighted sum.
        metrics: unweighted losses and the metrics of HyperLoRA's weight changes, scalars on the device or numbers.
    """
    forward, model = models
    loo, equivariance = config.loo_training, config.equivariance_training
    loss = outputs.logits.new_zeros(())
    metrics: dict[str, Tensor | float] = {**delta_metrics(outputs.deltas)}
    if loo.enabled:
        loo_queries, skipped_ratio = build_leave_one_out_queries(tensors, queries, loo.min_pairs_for_loo, draws[:, 0])
        metrics["loo_skipped_ratio"] = skipped_ratio
        if loo_queries is not None:
            loo_loss, loo_metrics = leave_one_out_loss(forward, tensors, loo_queries, config.training, with_gain)
            # Weighted by the share of queries, so that unequal parts and processes add up to the mean of the batch.
            loss = loss + loo.loss_weight * (1 - skipped_ratio) * loo_loss
            metrics |= loo_metrics
    if equivariance.enabled:
        elements = nonidentity_elements(draws[:, 1:])[: equivariance.num_augmentations]
        equiv_loss, equiv_metrics = equivariance_loss(
            forward, model.predict_deltas, tensors, queries, outputs, elements
        )
        loss = loss + equivariance.loss_weight * equiv_loss
        metrics |= equiv_metrics
    return loss, metrics
