"""Losses of a segment: the answer's tokens, and the values of halting and going on.

B batch, L cells, V tokens.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from arc_core.stablemax import log_stablemax
from hrm.model.reasoner import Answer

IGNORED = -100

LossType = Literal["stablemax_cross_entropy", "softmax_cross_entropy"]


class Losses(NamedTuple):
    """Sums over the batch, and what the metrics need.

    Attributes:
        answer: each sequence's mean over its labelled cells, summed.
        halt: binary cross-entropy of halting with being exactly right, summed.
        go_on: of going on with its target, summed; 0 without a target.
        right_cells: (B,) share of labelled cells that are right.
        exact: (B,) bool, all of them.
    """

    answer: Tensor
    halt: Tensor
    go_on: Tensor
    right_cells: Tensor
    exact: Tensor

    @property
    def total(self) -> Tensor:
        """answer + (halt + go_on) / 2, summed over the batch."""
        return self.answer + 0.5 * (self.halt + self.go_on)


def token_losses(logits: Tensor, labels: Tensor, kind: LossType) -> Tensor:
    """(B, L) float64 of stablemax or float32 of softmax, 0 where the label is ignored."""
    labelled = labels != IGNORED
    if kind == "stablemax_cross_entropy":  # in float64 as published
        log_probabilities = log_stablemax(logits.double() if logits.device.type != "mps" else logits.float())
    else:
        log_probabilities = torch.log_softmax(logits.float(), dim=-1)
    picked = log_probabilities.gather(-1, labels.where(labelled, 0).long()[..., None])[..., 0]
    return torch.where(labelled, -picked, 0)


def segment_losses(answer: Answer, labels: Tensor, go_on_target: Tensor | None, kind: LossType) -> Losses:
    """Losses of (B, L) labels; the sum over the batch is what the published loss head gives.

    Args:
        go_on_target: (B,) in 0..1, HRM's bootstrapped value; None where going on is not learnt.
    """
    labelled = labels != IGNORED
    counts = labelled.sum(1)
    with torch.no_grad():
        right = ((answer.logits.argmax(-1) == labels) & labelled).sum(1)
        exact = right == counts
    per_sequence = token_losses(answer.logits, labels, kind).sum(1) / counts.clamp_min(1)
    halt = functional.binary_cross_entropy_with_logits(answer.halt, exact.to(answer.halt.dtype), reduction="sum")
    go_on = answer.halt.new_zeros(())
    if go_on_target is not None:
        go_on = functional.binary_cross_entropy_with_logits(answer.go_on, go_on_target, reduction="sum")
    return Losses(per_sequence.sum(), halt, go_on, right / counts.clamp_min(1), exact)
