"""RLAN's losses: the answer's cells, and what keeps clues and predicates in shape.

B batch, T solver steps, S canvas side, K clues, P predicates, C = 11 classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from arc_core.stablemax import log_stablemax
from arc_core.tensors import OUTSIDE, TaskTensors
from rlan.config import LossMode, TrainingConfig
from rlan.data.queries import Inputs, Queries, build_inputs, build_targets
from rlan.model.layers import extent_mask
from rlan.model.rlan import Outputs
from rlan.model.saliency import Clues

_LEAST_SPREAD = 2.0  # cells between clues; closer ones are one anchor found twice
_BACKGROUND_CAP, _COLOR_CAP = 2.0, 5.0  # of weighted_stablemax, from the specification


@dataclass(frozen=True)
class Targets:
    """What the answers should be.

    Attributes:
        cells: (B, S, S) uint8, OUTSIDE past the answer.
        sizes: (B, 2) int64.
        background: (B,) int64, each answer's own most common colour.
    """

    cells: Tensor
    sizes: Tensor
    background: Tensor


def make_targets(cells: Tensor, sizes: Tensor) -> Targets:
    """Targets from the (B, S, S) canvas and (B, 2) sizes of the answers."""
    counts = functional.one_hot(cells.flatten(1).long(), OUTSIDE + 1).sum(1)[:, :OUTSIDE]
    return Targets(cells, sizes, counts.argmax(1))


def training_batch(tensors: TaskTensors, queries: Queries, side: int | None = None) -> tuple[Inputs, Targets]:
    """What a model reads and should answer, on the smallest canvas that holds the queries unless one is given."""
    side = side or int(queries.canvases(tensors).max())
    return build_inputs(tensors, queries, side), make_targets(*build_targets(tensors, queries, side))


def class_log_probabilities(logits: Tensor, stablemax: bool) -> Tensor:
    """(..., C) log probabilities by stablemax or softmax."""
    return log_stablemax(logits) if stablemax else torch.log_softmax(logits, dim=-1)


def uses_stablemax(mode: LossMode) -> bool:
    """Whether a loss mode reads logits as stablemax."""
    return mode in ("stablemax", "weighted_stablemax", "focal_stablemax")


def cell_weights(targets: Targets, live: Tensor, far_weight: float) -> Tensor:
    """(B, S, S) float: 1 on the answer and the ring of outside cells around it, less beyond, 0 past the canvas.

    # Differs: the specification counts answer and ring alone. Cells far outside would then keep what was copied
    # there from the input, and the size could be read from the ring only.
    """
    side = targets.cells.shape[-1]
    near = extent_mask(targets.sizes + 1, side).float()
    return torch.where(near > 0, near, far_weight) * extent_mask(live, side)


def task_loss(logits: Tensor, targets: Targets, weights: Tensor, mode: LossMode, alpha: float, gamma: float) -> Tensor:
    """(B, T) loss of each sample at each step, the mean over its own cells.

    Args:
        logits: (B, T, S, S, C) float32.
        weights: (B, S, S) of `cell_weights`.
        alpha: in the focal modes, the weight of cells that are not background; background has 1 - alpha.
        gamma: focal exponent.
    Source: Lin et al. 2017, arXiv:1708.02002, eq. 5, for the focal modes.
    """
    log_probabilities = class_log_probabilities(logits, uses_stablemax(mode))
    index = targets.cells.long()[:, None, ..., None].expand(-1, logits.shape[1], -1, -1, -1)
    log_right = log_probabilities.gather(-1, index)[..., 0]  # (B, T, S, S)
    loss = -log_right
    if mode in ("focal", "focal_stablemax"):
        is_background = targets.cells == targets.background[:, None, None]
        balance = torch.where(is_background, 1 - alpha, alpha)[:, None]
        loss = balance * (1 - log_right.exp()).clamp_min(0) ** gamma * loss
    elif mode == "weighted_stablemax":
        weights = weights * class_weights(targets, weights)
    weighted = (loss * weights[:, None]).sum((2, 3))
    return weighted / weights.sum((1, 2))[:, None]


def class_weights(targets: Targets, weights: Tensor) -> Tensor:
    """(B, S, S) inverse frequency of each cell's class in the batch, capped at 2 for background and 5 otherwise."""
    present = weights > 0
    counts = torch.bincount(targets.cells[present].long(), minlength=OUTSIDE + 1).float()
    inverse = counts.sum() / (counts.clamp_min(1) * (counts > 0).sum())
    is_background = targets.cells == targets.background[:, None, None]
    cap = torch.where(is_background, _BACKGROUND_CAP, _COLOR_CAP)
    return torch.minimum(inverse[targets.cells.long()], cap)


def attention_entropy(clues: Clues) -> Tensor:
    """Mean entropy of the used clues' attention, in nats."""
    return ((clues.entropy * clues.usage).sum(1) / clues.usage.sum(1)).mean()


def sparsity(clues: Clues, min_clues: float, cost: float) -> Tensor:
    """A pull up below `min_clues` expected clues, and a small cost of each: one side alone ends with none or all."""
    expected = clues.usage.sum(1)
    return ((min_clues - expected).clamp_min(0) + cost * expected).mean()


def centroid_diversity(clues: Clues, sizes: Tensor) -> Tensor:
    """How far pairs of used clues are closer than two cells, 0 (apart) to 1 (on one place).

    Args:
        sizes: (B, 2) of the grid; on grids too small for two cells, half the longer side is far enough.
    """
    distance = (clues.centroids[:, :, None] - clues.centroids[:, None]).square().sum(-1).add(1e-6).sqrt()  # (B, K, K)
    enough = (sizes.amax(1) / 2).clamp(max=_LEAST_SPREAD)[:, None, None]
    number = clues.usage.shape[1]
    both = torch.triu(clues.usage[:, :, None] * clues.usage[:, None], diagonal=1)
    if number < 2:
        return distance.sum() * 0
    return (((1 - distance / enough).clamp_min(0) * both).sum((1, 2)) / both.sum((1, 2)).clamp_min(1e-6)).mean()


def predicate_correlation(predicates: Tensor) -> Tensor:
    """Mean squared correlation over the batch of (B, P) predicates, pairs of different ones; 0 for a batch of one."""
    batch, number = predicates.shape
    if batch < 2 or number < 2:
        return predicates.sum() * 0
    centred = predicates - predicates.mean(0)
    normed = centred / (centred.square().sum(0) + 1e-6).sqrt()
    correlation = normed.T @ normed
    off_diagonal = correlation.square().sum() - correlation.diagonal().square().sum()
    return off_diagonal / (number * (number - 1))


@dataclass(frozen=True)
class Losses:
    """Scalars; `total` is what is minimised, `task` the last step's, the others unweighted."""

    total: Tensor
    task: Tensor
    supervision: Tensor
    entropy: Tensor
    sparsity: Tensor
    diversity: Tensor
    predicate: Tensor
    first_step: Tensor


def total_loss(
    outputs: Outputs,
    targets: Targets,
    live: Tensor,
    query_size: Tensor,
    config: TrainingConfig,
    predicates: Tensor | None = None,
) -> Losses:
    """All losses of a batch, weighted as the config says.

    Args:
        live, query_size: (B, 2) as in `Inputs`.
        predicates: those of the whole batch where other processes have a share of it.
    """
    weights = cell_weights(targets, live, config.far_outside_weight)
    alpha, gamma = config.focal_alpha, config.focal_gamma
    steps = task_loss(outputs.logits, targets, weights, config.loss_mode, alpha, gamma).mean(0)  # (T,)
    zero = steps.new_zeros(())
    last, earlier = steps[-1], steps[:-1].mean() if len(steps) > 1 else zero
    total = last + config.deep_supervision_weight * earlier
    entropy = few = together = correlated = zero
    if outputs.clues is not None:
        entropy = attention_entropy(outputs.clues)
        few = sparsity(outputs.clues, config.min_clues, config.clue_cost)
        together = centroid_diversity(outputs.clues, query_size)
        total = total + config.lambda_entropy * entropy + config.lambda_sparsity * few
        total = total + config.lambda_centroid_diversity * together
    if outputs.predicates is not None:
        correlated = predicate_correlation(outputs.predicates if predicates is None else predicates)
        total = total + config.lambda_predicate * correlated
    return Losses(total, last, earlier, entropy, few, together, correlated, steps[0])
