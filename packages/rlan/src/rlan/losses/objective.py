"""RLAN's main objective: the loss of the answer's cells, and regularisers of clues and predicates.

B batch, T solver steps, S canvas side, K clues, P predicates, C = 11 classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from arc_core.stablemax import log_stablemax
from arc_core.tensors import OUTSIDE, TaskTensors
from rlan.config import LossMode, TrainingConfig
from rlan.data.queries import Inputs, Queries, build_inputs_and_targets
from rlan.model.layers import extent_mask
from rlan.model.rlan import Outputs
from rlan.model.saliency import Clues

_MIN_CLUE_DISTANCE = 2.0  # cells; closer clues are one anchor found twice
_BACKGROUND_CAP, _COLOR_CAP = 2.0, 5.0  # of weighted_stablemax, from the specification


@dataclass(frozen=True)
class Targets:
    """True answers of a batch.

    Attributes:
        cells: (B, S, S) uint8, OUTSIDE past the answer.
        sizes: (B, 2) int64 heights and widths.
        background: (B,) int64, each answer's own most common colour.
    """

    cells: Tensor
    sizes: Tensor
    background: Tensor


def make_targets(cells: Tensor, sizes: Tensor) -> Targets:
    """Makes targets from the (B, S, S) cells and (B, 2) sizes that `build_targets` returns."""
    counts = functional.one_hot(cells.flatten(1).long(), OUTSIDE + 1).sum(1)[:, :OUTSIDE]
    return Targets(cells, sizes, counts.argmax(1))


def build_training_batch(tensors: TaskTensors, queries: Queries, side: int | None = None) -> tuple[Inputs, Targets]:
    """Builds the inputs and targets of training queries.

    Args:
        tensors: training tasks with all answers.
        queries: B queries.
        side: S; None for the smallest canvas that holds all queries.
    """
    side = side or int(queries.canvas_sides(tensors).max())
    inputs, cells, sizes = build_inputs_and_targets(tensors, queries, side)
    return inputs, make_targets(cells, sizes)


def class_log_probabilities(logits: Tensor, stablemax: bool) -> Tensor:
    """Returns the log probabilities of (..., C) logits by stablemax or softmax."""
    return log_stablemax(logits) if stablemax else torch.log_softmax(logits, dim=-1)


def uses_stablemax(mode: LossMode) -> bool:
    """Returns whether a loss mode reads logits as stablemax."""
    return mode in ("stablemax", "weighted_stablemax", "focal_stablemax")


def cell_weights(targets: Targets, answer_extent: Tensor, far_weight: float) -> Tensor:
    """Returns the weight of each cell in the task loss.

    Args:
        targets: true answers.
        answer_extent: (B, 2) area in which the answer is sought.
        far_weight: weight of cells beyond the answer and its ring, 0..1.
    Returns:
        (B, S, S) float32: 1 on the answer and the ring of outside cells around it, `far_weight` beyond, 0 past the
        answer extent.

    # Differs: the specification weights answer and ring alone. Cells far outside would then keep what was copied
    # there from the input, and the size could be read from the ring only.
    """
    side = targets.cells.shape[-1]
    near = extent_mask(targets.sizes + 1, side).float()
    return torch.where(near > 0, near, far_weight) * extent_mask(answer_extent, side)


def task_loss(logits: Tensor, targets: Targets, weights: Tensor, mode: LossMode, alpha: float, gamma: float) -> Tensor:
    """Returns the (B, T) loss of each sample after each solver step, the weighted mean over its own cells.

    Args:
        logits: (B, T, S, S, C) float32.
        targets: true answers.
        weights: (B, S, S) of `cell_weights`.
        mode: form of the loss; see `training.loss_mode`.
        alpha: in the focal modes, the weight of cells that are not background; background has 1 - alpha.
        gamma: in the focal modes, the exponent that lowers the weight of cells already answered well.
    Source: Lin et al. 2017, arXiv:1708.02002, eq. 5, for the focal modes.
    """
    log_probabilities = class_log_probabilities(logits, uses_stablemax(mode))
    index = targets.cells.long()[:, None, ..., None].expand(-1, logits.shape[1], -1, -1, -1)
    log_target = log_probabilities.gather(-1, index)[..., 0]  # (B, T, S, S)
    loss = -log_target
    if mode in ("focal", "focal_stablemax"):
        is_background = targets.cells == targets.background[:, None, None]
        balance = torch.where(is_background, 1 - alpha, alpha)[:, None]
        loss = balance * (1 - log_target.exp()).clamp_min(0) ** gamma * loss
    elif mode == "weighted_stablemax":
        weights = weights * class_weights(targets, weights)
    weighted = (loss * weights[:, None]).sum((2, 3))
    return weighted / weights.sum((1, 2))[:, None]


def class_weights(targets: Targets, weights: Tensor) -> Tensor:
    """Returns (B, S, S) inverse class frequencies in the batch, at most 2 for background cells and 5 for others.

    Args:
        targets: true answers.
        weights: (B, S, S) of `cell_weights`; cells of weight 0 are not counted.
    """
    present = weights > 0
    # Weighted instead of selected: how many cells are present is for the device alone to know.
    counts = torch.zeros(OUTSIDE + 1, device=weights.device)
    counts.index_add_(0, targets.cells.flatten().long(), present.flatten().float())
    inverse = counts.sum() / (counts.clamp_min(1) * (counts > 0).sum())
    is_background = targets.cells == targets.background[:, None, None]
    cap = torch.where(is_background, _BACKGROUND_CAP, _COLOR_CAP)
    return torch.minimum(inverse[targets.cells.long()], cap)


def entropy_loss(clues: Clues) -> Tensor:
    """Returns the mean entropy of the clues' attention, weighted by their usage, in nats."""
    return ((clues.entropy * clues.usage).sum(1) / clues.usage.sum(1)).mean()


def sparsity_loss(clues: Clues, min_clues: float, cost: float) -> Tensor:
    """Returns a penalty for fewer than `min_clues` clues and a cost of every clue; one without the other ends with all
    clues or with one.

    Args:
        clues: clues of a batch.
        min_clues: expected number of clues below which the penalty starts, in clues.
        cost: of each expected clue.
    """
    num_clues = clues.usage.sum(1)
    return ((min_clues - num_clues).clamp_min(0) + cost * num_clues).mean()


def centroid_diversity_loss(clues: Clues, sizes: Tensor) -> Tensor:
    """Returns how much pairs of clues are closer than two cells, from 0 (all apart) to 1 (all at one position).

    Args:
        clues: clues of a batch; pairs are weighted by the usage of both.
        sizes: (B, 2) of the test input; where half its longer side is less than two cells, that is far enough.
    """
    distance = (clues.centroids[:, :, None] - clues.centroids[:, None]).square().sum(-1).add(1e-6).sqrt()  # (B, K, K)
    min_distance = (sizes.amax(1) / 2).clamp(max=_MIN_CLUE_DISTANCE)[:, None, None]
    pair_usage = torch.triu(clues.usage[:, :, None] * clues.usage[:, None], diagonal=1)
    if clues.usage.shape[1] < 2:
        return distance.sum() * 0
    closeness = (1 - distance / min_distance).clamp_min(0)
    return ((closeness * pair_usage).sum((1, 2)) / pair_usage.sum((1, 2)).clamp_min(1e-6)).mean()


def predicate_loss(predicates: Tensor) -> Tensor:
    """Returns the mean squared correlation of pairs of (B, P) predicates over the batch; 0 for a batch of one."""
    batch, num_predicates = predicates.shape
    if batch < 2 or num_predicates < 2:
        return predicates.sum() * 0
    centred = predicates - predicates.mean(0)
    normalised = centred / (centred.square().sum(0) + 1e-6).sqrt()
    correlation = normalised.T @ normalised
    off_diagonal = correlation.square().sum() - correlation.diagonal().square().sum()
    return off_diagonal / (num_predicates * (num_predicates - 1))


@dataclass(frozen=True)
class Losses:
    """Losses of a batch, all scalars.

    Attributes:
        total: weighted sum that is minimised.
        task: `task_loss` of the last solver step.
        deep_supervision: mean `task_loss` of the earlier solver steps.
        entropy: `entropy_loss`, unweighted.
        sparsity: `sparsity_loss`, unweighted.
        centroid_diversity: `centroid_diversity_loss`, unweighted.
        predicate: `predicate_loss`, unweighted.
        first_step: `task_loss` of the first solver step.
    """

    total: Tensor
    task: Tensor
    deep_supervision: Tensor
    entropy: Tensor
    sparsity: Tensor
    centroid_diversity: Tensor
    predicate: Tensor
    first_step: Tensor


def total_loss(
    outputs: Outputs,
    targets: Targets,
    answer_extent: Tensor,
    query_size: Tensor,
    config: TrainingConfig,
    predicates: Tensor | None = None,
) -> Losses:
    """Computes all losses of a batch and their sum, weighted as the config says.

    Args:
        outputs: the model's outputs.
        targets: true answers.
        answer_extent: (B, 2) area in which the answers are sought, as in `Inputs`.
        query_size: (B, 2) sizes of the test inputs, as in `Inputs`.
        config: weights and parameters of the losses.
        predicates: predicates of the batch of all processes, where other processes have a share of it.
    """
    weights = cell_weights(targets, answer_extent, config.far_outside_weight)
    alpha, gamma = config.focal_alpha, config.focal_gamma
    steps = task_loss(outputs.logits, targets, weights, config.loss_mode, alpha, gamma).mean(0)  # (T,)
    zero = steps.new_zeros(())
    last, earlier = steps[-1], steps[:-1].mean() if len(steps) > 1 else zero
    total = last + config.deep_supervision_weight * earlier
    entropy = sparsity = diversity = correlation = zero
    if outputs.clues is not None:
        entropy = entropy_loss(outputs.clues)
        sparsity = sparsity_loss(outputs.clues, config.min_clues, config.clue_cost)
        diversity = centroid_diversity_loss(outputs.clues, query_size)
        total = total + config.lambda_entropy * entropy + config.lambda_sparsity * sparsity
        total = total + config.lambda_centroid_diversity * diversity
    if outputs.predicates is not None:
        correlation = predicate_loss(outputs.predicates if predicates is None else predicates)
        total = total + config.lambda_predicate * correlation
    return Losses(total, last, earlier, entropy, sparsity, diversity, correlation, steps[0])
