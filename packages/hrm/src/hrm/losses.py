"""Losses of a segment: the answer's tokens, and the values of halting and continuing.

B batch, L cells, V tokens.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from arc_core.stablemax import log_stablemax
from hrm.model.reasoner import SegmentOutput

IGNORED = -100

LossType = Literal["stablemax_cross_entropy", "softmax_cross_entropy"]


class SegmentLosses(NamedTuple):
    """Losses summed over the batch, and what the metrics need.

    Attributes:
        lm: cross-entropy of the answer's tokens, each sequence's mean over its labelled cells, summed.
        q_halt: binary cross-entropy of q_halt against being exactly right, summed.
        q_continue: binary cross-entropy of q_continue against its target, summed; 0 without a target.
        token_accuracy: (B,) share of labelled cells whose token is right.
        is_exact: (B,) bool, whether all of them are.
    """

    lm: Tensor
    q_halt: Tensor
    q_continue: Tensor
    token_accuracy: Tensor
    is_exact: Tensor

    @property
    def total(self) -> Tensor:
        """lm + (q_halt + q_continue) / 2, summed over the batch."""
        return self.lm + 0.5 * (self.q_halt + self.q_continue)


def token_losses(logits: Tensor, labels: Tensor, loss_type: LossType) -> Tensor:
    """Computes the cross-entropy of every token.

    Args:
        logits: (B, L, V).
        labels: (B, L) int64, or IGNORED.
        loss_type: stablemax or softmax.
    Returns:
        (B, L) float64 for stablemax or float32 for softmax, 0 where the label is ignored.
    """
    is_labelled = labels != IGNORED
    if loss_type == "stablemax_cross_entropy":  # in float64 as published
        log_probabilities = log_stablemax(logits.double() if logits.device.type != "mps" else logits.float())
    else:
        log_probabilities = torch.log_softmax(logits.float(), dim=-1)
    picked = log_probabilities.gather(-1, labels.where(is_labelled, 0).long()[..., None])[..., 0]
    return torch.where(is_labelled, -picked, 0)


def segment_losses(
    output: SegmentOutput, labels: Tensor, q_continue_target: Tensor | None, loss_type: LossType
) -> SegmentLosses:
    """Computes all losses of a segment; the sum over the batch is what the published loss head gives.

    Args:
        output: of the segment.
        labels: (B, L) int64, or IGNORED.
        q_continue_target: (B,) in 0..1, HRM's bootstrapped value; None where q_continue is not learnt.
        loss_type: of the answer's tokens.
    """
    is_labelled = labels != IGNORED
    counts = is_labelled.sum(1)
    with torch.no_grad():
        num_right = ((output.logits.argmax(-1) == labels) & is_labelled).sum(1)
        is_exact = num_right == counts
    lm = token_losses(output.logits, labels, loss_type).sum(1) / counts.clamp_min(1)
    binary_cross_entropy = functional.binary_cross_entropy_with_logits
    q_halt = binary_cross_entropy(output.q_halt, is_exact.to(output.q_halt.dtype), reduction="sum")
    q_continue = output.q_halt.new_zeros(())
    if q_continue_target is not None:
        q_continue = binary_cross_entropy(output.q_continue, q_continue_target, reduction="sum")
    return SegmentLosses(lm.sum(), q_halt, q_continue, num_right / counts.clamp_min(1), is_exact)
