from dataclasses import replace

import numpy as np
import pytest
import torch

from arc_core.augment import View
from arc_core.errors import ConfigError
from arc_core.tensors import TaskTensors
from rlan.config import DataConfig, ModelConfig, TrainingConfig
from rlan.data.queries import QuerySampler, build_inputs, build_test_queries
from rlan.losses.objective import build_training_batch, total_loss
from rlan.model.hyperlora import HyperLora, LowRankDelta, delta_cosine, delta_metrics, delta_norm
from rlan.model.recursive_solver import lora_layer_sizes
from rlan.model.rlan import Rlan

CONFIG = ModelConfig(hidden_dim=16, num_heads=2, use_hyperlora=True, hyperlora_rank=3)


def make_hyperlora(config: ModelConfig = CONFIG, scale: float = 1.0) -> HyperLora:
    """Makes a predictor whose zero factor is random, as after some training."""
    torch.manual_seed(0)
    hyperlora = HyperLora(config, lora_layer_sizes(config.hidden_dim))
    with torch.no_grad():
        for layer in hyperlora.up.values():
            layer.weight.normal_(std=scale)
    return hyperlora


def test_a_new_predictor_changes_nothing() -> None:
    torch.manual_seed(0)
    for delta in HyperLora(CONFIG, lora_layer_sizes(16))(torch.randn(4, 16)).values():
        assert not (delta.down @ delta.up).any()
        assert delta.down.any()


def test_the_norm_equals_that_of_the_product_and_never_passes_its_limit() -> None:
    for scale, limit in ((0.01, 1.0), (10.0, 1.0), (10.0, 0.25)):
        config = replace(CONFIG, hyperlora_max_norm=limit)
        for delta in make_hyperlora(config, scale)(torch.randn(8, 16) * 5).values():
            product = (delta.down @ delta.up).flatten(1).norm(dim=1)
            torch.testing.assert_close(delta_norm(delta), product, rtol=1e-3, atol=1e-5)
            assert (product <= limit * 1.001).all()


def test_the_limit_holds_in_mixed_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        deltas = make_hyperlora(CONFIG, 10.0)(torch.randn(8, 16) * 5)
    for delta in deltas.values():
        assert ((delta.down @ delta.up).flatten(1).norm(dim=1) <= 1.001).all()


def test_cosines_equal_those_of_the_products() -> None:
    delta = LowRankDelta(torch.randn(5, 16, 3), torch.randn(5, 3, 7))
    flat = torch.nn.functional.normalize((delta.down @ delta.up).flatten(1))
    torch.testing.assert_close(delta_cosine(delta), flat @ flat.T, rtol=1e-4, atol=1e-5)


def test_applying_the_change_equals_changing_the_weight() -> None:
    layer, cells = torch.nn.Linear(16, 7), torch.randn(2, 4, 4, 16)
    delta = LowRankDelta(torch.randn(2, 16, 3), torch.randn(2, 3, 7))
    for row in range(2):
        weight = layer.weight + (delta.down[row] @ delta.up[row]).T
        expected = torch.nn.functional.linear(cells[row], weight, layer.bias)
        torch.testing.assert_close((layer(cells) + delta(cells))[row], expected, rtol=1e-4, atol=1e-4)


def test_different_contexts_give_different_changes_and_equal_ones_equal() -> None:
    contexts = torch.randn(1, 16).repeat(3, 1)
    contexts[2] = torch.randn(16)
    for delta in make_hyperlora()(contexts).values():
        cosine = delta_cosine(delta)
        assert cosine[0, 1].item() == pytest.approx(1.0, abs=1e-4)
        assert cosine[0, 2].item() < 0.9


def test_changes_without_a_context_are_refused() -> None:
    with pytest.raises(ConfigError, match="use_hyperlora needs use_context"):
        ModelConfig(use_hyperlora=True, use_context=False)


def test_lora_diversity_is_0_without_changes_and_for_equal_changes() -> None:
    zero = {"a": LowRankDelta(torch.randn(3, 6, 2), torch.zeros(3, 2, 5))}
    assert delta_metrics(zero)["lora_diversity"] == 0.0
    assert delta_metrics({}) == {}
    same = {"a": LowRankDelta(torch.ones(3, 6, 2), torch.ones(3, 2, 5))}
    assert delta_metrics(same)["lora_diversity"] == pytest.approx(0.0, abs=1e-5)


def test_the_task_loss_alone_teaches_hyperlora_different_changes_for_different_tasks(
    tensors: TaskTensors, hyperlora_config: ModelConfig
) -> None:
    torch.manual_seed(0)
    model = Rlan(hyperlora_config)
    queries = build_test_queries(tensors, [0, 1, 2], 3, View())
    inputs, targets = build_training_batch(
        tensors, QuerySampler(tensors, DataConfig(), 6, 0).epoch_queries(0).select(np.arange(3))
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    assert model.hyperlora is not None
    config = TrainingConfig(loss_mode="cross_entropy")
    assert delta_metrics(model.predict_deltas(build_inputs(tensors, queries, 6)))["lora_diversity"] == 0
    for _ in range(10):
        optimizer.zero_grad()
        total_loss(model(inputs), targets, inputs.answer_extent, inputs.query_size, config).task.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.hyperlora.parameters())
    metrics = delta_metrics(model.predict_deltas(build_inputs(tensors, queries, 6)))
    same_task = build_test_queries(tensors, [0, 0, 0], 3, View())
    rounding = delta_metrics(model.predict_deltas(build_inputs(tensors, same_task, 6)))["lora_diversity"]
    assert metrics["lora_diversity"] > 10 * abs(rounding)
    assert all(metrics[f"lora_magnitude_{name}"] > 1e-3 for name in ("gru_reset", "gru_candidate", "output_head"))
