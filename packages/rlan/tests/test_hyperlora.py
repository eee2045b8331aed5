from dataclasses import replace

import pytest
import torch

from arc_core.errors import ConfigError
from rlan.config import ModelConfig
from rlan.model.hyperlora import HyperLora, LowRank, delta_cosine, delta_norm
from rlan.model.recursive_solver import adapted_layers

CONFIG = ModelConfig(hidden_dim=16, num_heads=2, use_hyperlora=True, hyperlora_rank=3)


def opened(config: ModelConfig = CONFIG, scale: float = 1.0) -> HyperLora:
    """With its zero factor opened, as training does."""
    torch.manual_seed(0)
    module = HyperLora(config, adapted_layers(config.hidden_dim))
    with torch.no_grad():
        for layer in module.up.values():
            layer.weight.normal_(std=scale)
    return module


def test_a_new_predictor_changes_nothing() -> None:
    torch.manual_seed(0)
    for delta in HyperLora(CONFIG, adapted_layers(16))(torch.randn(4, 16)).values():
        assert not (delta.down @ delta.up).any()
        assert delta.down.any()


def test_the_norm_equals_that_of_the_product_and_never_passes_its_limit() -> None:
    for scale, limit in ((0.01, 1.0), (10.0, 1.0), (10.0, 0.25)):
        config = replace(CONFIG, hyperlora_max_norm=limit)
        for delta in opened(config, scale)(torch.randn(8, 16) * 5).values():
            product = (delta.down @ delta.up).flatten(1).norm(dim=1)
            torch.testing.assert_close(delta_norm(delta), product, rtol=1e-3, atol=1e-5)
            assert (product <= limit * 1.001).all()


def test_the_limit_holds_in_mixed_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        changes = opened(CONFIG, 10.0)(torch.randn(8, 16) * 5)
    for delta in changes.values():
        assert ((delta.down @ delta.up).flatten(1).norm(dim=1) <= 1.001).all()


def test_cosines_equal_those_of_the_products() -> None:
    delta = LowRank(torch.randn(5, 16, 3), torch.randn(5, 3, 7))
    flat = torch.nn.functional.normalize((delta.down @ delta.up).flatten(1))
    torch.testing.assert_close(delta_cosine(delta), flat @ flat.T, rtol=1e-4, atol=1e-5)


def test_applying_the_change_equals_changing_the_weight() -> None:
    layer, cells = torch.nn.Linear(16, 7), torch.randn(2, 4, 4, 16)
    delta = LowRank(torch.randn(2, 16, 3), torch.randn(2, 3, 7))
    for row in range(2):
        weight = layer.weight + (delta.down[row] @ delta.up[row]).T
        expected = torch.nn.functional.linear(cells[row], weight, layer.bias)
        torch.testing.assert_close((layer(cells) + delta(cells))[row], expected, rtol=1e-4, atol=1e-4)


def test_different_contexts_give_different_changes_and_equal_ones_equal() -> None:
    contexts = torch.randn(1, 16).repeat(3, 1)
    contexts[2] = torch.randn(16)
    for delta in opened()(contexts).values():
        cosine = delta_cosine(delta)
        assert cosine[0, 1].item() == pytest.approx(1.0, abs=1e-4)
        assert cosine[0, 2].item() < 0.9


def test_changes_without_a_context_are_refused() -> None:
    with pytest.raises(ConfigError, match="use_hyperlora needs use_context"):
        ModelConfig(use_hyperlora=True, use_context=False)
