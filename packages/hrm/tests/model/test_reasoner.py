"""The networks against independent statements of their mathematics, in float64 loops."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hrm.config import ModelConfig
from hrm.model.reasoner import LatentState, Reasoner

Build = Callable[[ModelConfig], Reasoner]


def naive_level(weights: dict[str, Tensor], prefix: str, layers: int, hidden: Tensor, config: ModelConfig) -> Tensor:
    """Blocks written out head by head and token by token."""
    dim, heads = config.hidden_size, config.num_heads
    size, length = dim // heads, hidden.shape[1]

    def norm(x: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).sqrt()

    def rotate(x: Tensor, position: int) -> Tensor:
        out = x.clone()
        for i in range(size // 2):
            angle = position / config.rope_theta ** (2 * i / size)
            a, b = x[..., i], x[..., i + size // 2]
            out[..., i] = a * math.cos(angle) - b * math.sin(angle)
            out[..., i + size // 2] = b * math.cos(angle) + a * math.sin(angle)
        return out

    for layer in range(layers):
        part = f"{prefix}.layers.{layer}."
        qkv = hidden @ weights[part + "self_attn.qkv_proj.weight"].T
        mixed = []
        for head in range(heads):
            q, k, v = (qkv[..., i * dim + head * size : i * dim + (head + 1) * size] for i in range(3))
            q = torch.stack([rotate(q[:, t], t) for t in range(length)], 1)
            k = torch.stack([rotate(k[:, t], t) for t in range(length)], 1)
            mixed.append(torch.softmax(q @ k.mT / math.sqrt(size), -1) @ v)
        hidden = norm(hidden + torch.cat(mixed, -1) @ weights[part + "self_attn.o_proj.weight"].T)
        gate, up = (hidden @ weights[part + "mlp.gate_up_proj.weight"].T).chunk(2, -1)
        hidden = norm(hidden + (gate * torch.sigmoid(gate) * up) @ weights[part + "mlp.down_proj.weight"].T)
    return hidden


def naive_segment(
    model: Reasoner,
    weights: dict[str, Tensor],
    state: LatentState,
    tokens: Tensor,
    rows: Tensor,
    first_update_with_gradient: int,
) -> tuple[Tensor, Tensor]:
    """(logits, Q-values); the gradient is cut before one of all updates of either level, numbered from 0."""
    config = model.config
    dim = config.hidden_size
    prefix = torch.zeros(len(tokens), model.prefix_tokens * dim, dtype=torch.float64)
    prefix = torch.cat([rows, prefix[:, rows.shape[1] :]], 1).view(len(tokens), model.prefix_tokens, dim)
    x = math.sqrt(dim) * torch.cat([prefix, weights["embed_tokens"][tokens.long()]], 1)
    z_H, z_L = state
    updates = []
    for _ in range(config.H_cycles):
        updates += ["z_L"] * config.L_cycles + ["z_H"]
    if config.architecture == "transformer":
        updates = ["only"]
    slow = "H_level" if config.architecture == "hrm" else "L_level"
    slow_layers = config.H_layers if config.architecture == "hrm" else config.L_layers
    for index, update in enumerate(updates):
        if index == first_update_with_gradient:
            z_H, z_L = z_H.detach(), z_L.detach()
        if update == "z_L":
            z_L = naive_level(weights, "L_level", config.L_layers, z_L + z_H + x, config)
        elif update == "z_H":
            z_H = naive_level(weights, slow, slow_layers, z_H + z_L, config)
        else:
            z_H = naive_level(weights, "L_level", config.L_layers, z_H + x, config)
    q_values = z_H[:, 0] @ weights["q_head.weight"].T + weights["q_head.bias"]
    return z_H[:, model.prefix_tokens :] @ weights["lm_head.weight"].T, q_values


@pytest.mark.parametrize(("name", "first"), [("hrm", 6), ("trm", 4), ("transformer", 0)])
def test_a_segment_and_its_gradients_equal_the_written_out_mathematics(
    name: str, first: int, configs: dict[str, ModelConfig], build_reasoner: Build
) -> None:
    """HRM: gradient through the last update of either level alone; TRM: through the last whole cycle."""
    model = build_reasoner(configs[name])
    tokens = torch.randint(0, 12, (2, 36))
    rows = torch.randn(2, 24, dtype=torch.float64).requires_grad_()
    shape = (2, model.prefix_tokens + 36, 16)
    state = LatentState(*(torch.randn(shape, dtype=torch.float64) for _ in range(2)))
    _, output = model(state, tokens, rows, torch.arange(model.prefix_tokens + 36)[None])
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    naive_rows = rows.detach().clone().requires_grad_()
    logits, q_values = naive_segment(model, weights, state, tokens, naive_rows, first)
    torch.testing.assert_close(output.logits, logits, atol=1e-5, rtol=1e-5)  # the rotary table is float32
    torch.testing.assert_close(
        torch.stack([output.q_halt, output.q_continue], 1).double(), q_values, atol=1e-5, rtol=1e-5
    )
    mix = torch.randn_like(logits)
    ((output.logits * mix).sum() + output.q_halt.sum()).backward()
    ((logits * mix).sum() + q_values[:, 0].sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        expected = weights[name].grad
        assert expected is not None
        torch.testing.assert_close(parameter.grad, expected, atol=1e-4, rtol=1e-4)
    assert rows.grad is not None
    torch.testing.assert_close(rows.grad, naive_rows.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["hrm", "trm", "transformer"])
def test_no_gradient_crosses_from_one_segment_into_the_segment_before(
    name: str, configs: dict[str, ModelConfig], build_reasoner: Build
) -> None:
    model = build_reasoner(configs[name])
    positions = torch.arange(model.prefix_tokens + 36)[None]
    tokens = torch.randint(0, 12, (2, 36))
    first_rows, second_rows = (torch.randn(2, 24, dtype=torch.float64).requires_grad_() for _ in range(2))
    state, _ = model(model.initial_state(2, 36, torch.float64), tokens, first_rows, positions)
    _, output = model(state, tokens, second_rows, positions)
    output.logits.square().sum().backward()
    assert first_rows.grad is None
    assert second_rows.grad is not None


def test_checkpointed_activations_give_the_same_gradients(
    configs: dict[str, ModelConfig], build_reasoner: Build
) -> None:
    grads = []
    for gradient_checkpointing in (False, True):
        model = build_reasoner(replace(configs["trm"], gradient_checkpointing=gradient_checkpointing))
        torch.manual_seed(1)
        tokens, rows = torch.randint(0, 12, (2, 36)), torch.randn(2, 24).double()
        _, output = model(model.initial_state(2, 36, torch.float64), tokens, rows, torch.arange(39)[None])
        output.logits.square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*grads)


def test_initial_weights_have_their_documented_spread(configs: dict[str, ModelConfig]) -> None:
    torch.manual_seed(0)
    model = Reasoner(replace(configs["hrm"], hidden_size=256, num_heads=4, puzzle_emb_ndim=0))
    weight = model.L_level.layers[0].self_attn.qkv_proj.weight  # type: ignore[union-attr]
    assert isinstance(weight, Tensor)
    assert float(weight.std().detach()) == pytest.approx(1 / 16, rel=0.02)
    assert float(weight.abs().max().detach()) <= 2 / 16 / 0.8796
    assert float(model.embed_tokens.std().detach()) == pytest.approx(1 / 16, rel=0.05)


def test_a_reasoner_without_puzzle_embedding_answers() -> None:
    model = Reasoner(ModelConfig(hidden_size=16, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=0))
    tokens = torch.zeros(1, 16, dtype=torch.uint8)
    _, output = model(model.initial_state(1, 16), tokens, None, torch.arange(16)[None])
    assert output.logits.shape == (1, 16, 12)
