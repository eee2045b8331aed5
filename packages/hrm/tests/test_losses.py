"""Losses of a segment in closed form."""

import math

import pytest
import torch

from hrm.losses import IGNORED, segment_losses, token_losses
from hrm.model.reasoner import SegmentOutput


def test_stablemax_loss_equals_its_closed_form() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 12) * 4, torch.randint(0, 12, (3, 5))
    labels[0, 1:] = IGNORED
    losses = token_losses(logits, labels, "stablemax_cross_entropy")
    for b in range(3):
        for cell in range(5):
            s = [x + 1 if x >= 0 else 1 / (1 - x) for x in logits[b, cell].tolist()]
            label = int(labels[b, cell])
            expected = 0.0 if label == IGNORED else -math.log(s[label] / sum(s))
            assert losses[b, cell].item() == pytest.approx(expected, abs=1e-9)
    softmax = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    torch.testing.assert_close(token_losses(logits, labels, "softmax_cross_entropy").flatten(), softmax)


def test_the_loss_is_normalised_by_sequence_and_halting_learns_exactness() -> None:
    logits = torch.zeros(2, 3, 12)
    labels = torch.tensor([[0, 0, 0], [5, IGNORED, IGNORED]])
    logits[0, :, 0] = 2.0  # the first sequence is exactly right
    output = SegmentOutput(logits, torch.tensor([0.3, -0.7]), torch.tensor([0.1, 0.2]))
    losses = segment_losses(output, labels, torch.tensor([0.25, 0.5]), "stablemax_cross_entropy")
    assert losses.is_exact.tolist() == [True, False]
    assert losses.token_accuracy.tolist() == [1.0, 0.0]
    first, second = -math.log(3 / (3 + 11)), -math.log(1 / 12)  # means over 3 cells and over 1
    assert losses.lm.item() == pytest.approx(first + second, abs=1e-6)

    def bce(logit: float, target: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -target * math.log(p) - (1 - target) * math.log(1 - p)

    assert losses.q_halt.item() == pytest.approx(bce(0.3, 1) + bce(-0.7, 0), abs=1e-6)
    assert losses.q_continue.item() == pytest.approx(bce(0.1, 0.25) + bce(0.2, 0.5), abs=1e-6)
    assert losses.total.item() == pytest.approx(
        losses.lm.item() + 0.5 * (losses.q_halt.item() + losses.q_continue.item()), abs=1e-6
    )
