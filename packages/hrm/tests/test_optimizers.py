"""Optimisers and the learning-rate schedule."""

import math

import pytest
import torch

from hrm.config import ModelConfig, TrainingConfig
from hrm.model.reasoner import Reasoner
from hrm.optimizers import AdamAtan2, learning_rate_factor, make_optimizers


def test_adam_atan2_equals_a_loop_in_float64() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    start, grads = weight.detach().clone(), torch.randn(4, 3, 2, dtype=torch.float64)
    optimizer = AdamAtan2([weight], 0.1, (0.9, 0.95), 0.2)
    for grad in grads:
        weight.grad = grad
        optimizer.step()
    for i in range(3):
        for j in range(2):
            w, m, v = float(start[i, j]), 0.0, 0.0
            for t, grad in enumerate(grads, 1):
                g = float(grad[i, j])
                m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
                w = w * (1 - 0.1 * 0.2) - 0.1 * math.atan2(m / (1 - 0.9**t), math.sqrt(v / (1 - 0.95**t)))
            assert float(weight[i, j].detach()) == pytest.approx(w, rel=1e-12)


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = Reasoner(ModelConfig(hidden_size=16, num_heads=2, H_layers=1, L_layers=1, expansion=1.0, puzzle_emb_ndim=0))
    muon, adamw = make_optimizers(model, TrainingConfig(optimizer="muon"))
    assert len(muon.param_groups[0]["params"]) == 8
    assert len(adamw.param_groups[0]["params"]) == 4


def test_the_rate_warms_up_and_falls_to_its_share() -> None:
    training = TrainingConfig(max_steps=110, warmup_steps=10, lr_min_ratio=0.2)
    assert learning_rate_factor(training, 0) == pytest.approx(0.1)
    assert learning_rate_factor(training, 9) == learning_rate_factor(training, 10) == 1.0
    assert learning_rate_factor(training, 60) == pytest.approx(0.6)
    assert learning_rate_factor(training, 110) == pytest.approx(0.2)
    assert learning_rate_factor(TrainingConfig(scheduler="constant", warmup_steps=0), 10**6) == 1.0
