"""The networks against independent statements of their mathematics, in float64 loops."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from arc_core.grid import MAX_SIDE
from hrm.config import ModelConfig
from hrm.data.tokens import positions
from hrm.losses import IGNORED, segment_losses, token_losses
from hrm.model.halting import Batch, Draws, go_on_target, halts, restarted
from hrm.model.layers import rms_norm, rotary_table, rotate
from hrm.model.puzzle_embedding import PuzzleEmbedding, sign_sgd
from hrm.model.reasoner import Answer, Reasoner, State

SMALL = ModelConfig(
    hidden_size=16, num_heads=2, H_layers=1, L_layers=2, H_cycles=2, L_cycles=3, puzzle_emb_ndim=24, seq_len=36,
    expansion=1.0, halt_max_steps=4,
)  # fmt: skip
TRM = replace(SMALL, architecture="trm", no_ACT_continue=True, puzzle_emb_len=3)
TRANSFORMER = replace(SMALL, architecture="transformer")


def build(config: ModelConfig) -> Reasoner:
    torch.manual_seed(0)
    model = Reasoner(config)
    with torch.no_grad():
        model.q_head.weight.normal_()
    return model.double()


def naive_level(weights: dict[str, Tensor], prefix: str, layers: int, hidden: Tensor, config: ModelConfig) -> Tensor:
    """Blocks written out head by head and token by token."""
    dim, heads = config.hidden_size, config.num_heads
    size, length = dim // heads, hidden.shape[1]

    def norm(x: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).sqrt()

    def turned(x: Tensor, place: int) -> Tensor:
        out = x.clone()
        for i in range(size // 2):
            angle = place / config.rope_theta ** (2 * i / size)
            a, b = x[..., i], x[..., i + size // 2]
            out[..., i] = a * math.cos(angle) - b * math.sin(angle)
            out[..., i + size // 2] = b * math.cos(angle) + a * math.sin(angle)
        return out

    for number in range(layers):
        part = f"{prefix}.layers.{number}."
        qkv = hidden @ weights[part + "self_attn.qkv_proj.weight"].T
        mixed = []
        for head in range(heads):
            q, k, v = (qkv[..., i * dim + head * size : i * dim + (head + 1) * size] for i in range(3))
            q = torch.stack([turned(q[:, t], t) for t in range(length)], 1)
            k = torch.stack([turned(k[:, t], t) for t in range(length)], 1)
            mixed.append(torch.softmax(q @ k.mT / math.sqrt(size), -1) @ v)
        hidden = norm(hidden + torch.cat(mixed, -1) @ weights[part + "self_attn.o_proj.weight"].T)
        gate, up = (hidden @ weights[part + "mlp.gate_up_proj.weight"].T).chunk(2, -1)
        hidden = norm(hidden + (gate * torch.sigmoid(gate) * up) @ weights[part + "mlp.down_proj.weight"].T)
    return hidden


def naive_segment(
    model: Reasoner, weights: dict[str, Tensor], state: State, tokens: Tensor, rows: Tensor, with_gradient_from: int
) -> tuple[Tensor, Tensor]:
    """(logits, values), gradients cut before update number `with_gradient_from` of all updates of either level."""
    config = model.config
    dim = config.hidden_size
    prefix = torch.zeros(len(tokens), model.prefix * dim, dtype=torch.float64)
    prefix = torch.cat([rows, prefix[:, rows.shape[1] :]], 1).view(len(tokens), model.prefix, dim)
    x = math.sqrt(dim) * torch.cat([prefix, weights["embed_tokens"][tokens.long()]], 1)
    high, low = state.high, state.low
    updates = []
    for _ in range(config.H_cycles):
        updates += ["low"] * config.L_cycles + ["high"]
    if config.architecture == "transformer":
        updates = ["only"]
    slow = "H_level" if config.architecture == "hrm" else "L_level"
    slow_layers = config.H_layers if config.architecture == "hrm" else config.L_layers
    for number, update in enumerate(updates):
        if number == with_gradient_from:
            high, low = high.detach(), low.detach()
        if update == "low":
            low = naive_level(weights, "L_level", config.L_layers, low + high + x, config)
        elif update == "high":
            high = naive_level(weights, slow, slow_layers, high + low, config)
        else:
            high = naive_level(weights, "L_level", config.L_layers, high + x, config)
    values = high[:, 0] @ weights["q_head.weight"].T + weights["q_head.bias"]
    return high[:, model.prefix :] @ weights["lm_head.weight"].T, values


@pytest.mark.parametrize(("config", "first"), [(SMALL, 6), (TRM, 4), (TRANSFORMER, 0)], ids=["hrm", "trm", "plain"])
def test_a_segment_and_its_gradients_equal_the_written_out_mathematics(config: ModelConfig, first: int) -> None:
    """HRM: gradient through the last update of either level alone; TRM: through the last whole cycle."""
    model = build(config)
    tokens = torch.randint(0, 12, (2, 36))
    rows = torch.randn(2, 24, dtype=torch.float64).requires_grad_()
    state = State(*(torch.randn(2, model.prefix + 36, 16, dtype=torch.float64) for _ in range(2)))
    places = torch.arange(model.prefix + 36)[None]
    _, answer = model(state, tokens, rows, places)
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    other = rows.detach().clone().requires_grad_()
    logits, values = naive_segment(model, weights, state, tokens, other, first)
    torch.testing.assert_close(answer.logits, logits, atol=1e-5, rtol=1e-5)  # the rotary table is float32
    torch.testing.assert_close(torch.stack([answer.halt, answer.go_on], 1).double(), values, atol=1e-5, rtol=1e-5)
    mix = torch.randn_like(logits)
    ((answer.logits * mix).sum() + answer.halt.sum()).backward()
    ((logits * mix).sum() + values[:, 0].sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        expected = weights[name].grad
        assert expected is not None
        torch.testing.assert_close(parameter.grad, expected, atol=1e-4, rtol=1e-4)
    assert rows.grad is not None
    torch.testing.assert_close(rows.grad, other.grad, atol=1e-4, rtol=1e-4)


def test_checkpointed_activations_give_the_same_gradients() -> None:
    grads = []
    for config in (TRM, replace(TRM, gradient_checkpointing=True)):
        model = build(config)
        torch.manual_seed(1)
        _, answer = model(model.start(2, 36, torch.float64), torch.randint(0, 12, (2, 36)), torch.randn(2, 24).double(),
                          torch.arange(39)[None])  # fmt: skip
        answer.logits.square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*grads)


def test_rms_norm_has_unit_mean_square() -> None:
    x = torch.randn(5, 64)
    torch.testing.assert_close(rms_norm(x, 0.0).square().mean(-1), torch.ones(5))


def test_windows_keep_their_places_in_the_full_sequence() -> None:
    """Rotary positions on 2-D buckets: a cell's table row is that of its row and column on the 30 x 30 canvas."""
    origin = torch.tensor([[0, 0], [7, 3]])
    found = positions(4, 2, origin)
    for b, (row, column) in enumerate(origin.tolist()):
        expected = [0, 1] + [2 + MAX_SIDE * (row + r) + column + c for r in range(4) for c in range(4)]
        assert found[b].tolist() == expected
    assert positions(30, 2)[0].tolist() == list(range(902))
    table = rotary_table(902, 8, 10000.0)
    heads = torch.randn(1, 18, 1, 8)
    window = rotate(heads, table[:, found[1]][:, None, :, None])
    for token, place in enumerate(found[1].tolist()):
        for i in range(4):
            angle = place / 10000 ** (i / 4)
            a, b = heads[0, token, 0, i].item(), heads[0, token, 0, i + 4].item()
            assert window[0, token, 0, i].item() == pytest.approx(a * math.cos(angle) - b * math.sin(angle), abs=1e-4)
            assert window[0, token, 0, i + 4].item() == pytest.approx(
                b * math.cos(angle) + a * math.sin(angle), abs=1e-4
            )


def test_stablemax_loss_equals_its_closed_form() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 12) * 4, torch.randint(0, 12, (3, 5))
    labels[0, 1:] = IGNORED
    found = token_losses(logits, labels, "stablemax_cross_entropy")
    for b in range(3):
        for cell in range(5):
            s = [x + 1 if x >= 0 else 1 / (1 - x) for x in logits[b, cell].tolist()]
            label = int(labels[b, cell])
            expected = 0.0 if label == IGNORED else -math.log(s[label] / sum(s))
            assert found[b, cell].item() == pytest.approx(expected, abs=1e-9)
    softmax = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    torch.testing.assert_close(token_losses(logits, labels, "softmax_cross_entropy").flatten(), softmax)


def test_the_loss_is_normalised_by_sequence_and_halting_learns_exactness() -> None:
    logits = torch.zeros(2, 3, 12)
    labels = torch.tensor([[0, 0, 0], [5, IGNORED, IGNORED]])
    logits[0, :, 0] = 2.0  # the first sequence is exactly right
    answer = Answer(logits, torch.tensor([0.3, -0.7]), torch.tensor([0.1, 0.2]))
    found = segment_losses(answer, labels, torch.tensor([0.25, 0.5]), "stablemax_cross_entropy")
    assert found.exact.tolist() == [True, False]
    assert found.right_cells.tolist() == [1.0, 0.0]
    first, second = -math.log(3 / (3 + 11)), -math.log(1 / 12)  # means over 3 cells and over 1
    assert found.answer.item() == pytest.approx(first + second, abs=1e-6)

    def bce(logit: float, target: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -target * math.log(p) - (1 - target) * math.log(1 - p)

    assert found.halt.item() == pytest.approx(bce(0.3, 1) + bce(-0.7, 0), abs=1e-6)
    assert found.go_on.item() == pytest.approx(bce(0.1, 0.25) + bce(0.2, 0.5), abs=1e-6)
    assert found.total.item() == pytest.approx(
        found.answer.item() + 0.5 * (found.halt.item() + found.go_on.item()), abs=1e-6
    )


def test_halting_equals_a_loop_over_sequences() -> None:
    torch.manual_seed(0)
    count = 200
    answer = Answer(torch.zeros(count, 1, 12), torch.randn(count), torch.randn(count))
    steps, least = torch.randint(1, 5, (count,)), torch.randint(2, 5, (count,))
    explores = torch.rand(count)
    for config in (SMALL, TRM):
        config = replace(config, halt_exploration_prob=0.4)
        found = halts(config, answer, steps, Draws(explores, least))
        for i in range(count):
            halt, go_on = float(answer.halt[i]), float(answer.go_on[i])
            wants = halt > 0 if config.no_ACT_continue else halt > go_on
            must = int(least[i]) if float(explores[i]) < 0.4 else 0
            expected = int(steps[i]) == 4 or (wants and int(steps[i]) >= must)
            assert bool(found[i]) == expected
    assert bool(halts(replace(SMALL, halt_max_steps=1), answer, steps, Draws(explores, least)).all())


def test_the_value_of_going_on_is_the_best_of_the_next_segment() -> None:
    model = build(SMALL).float()
    tokens, rows, places = torch.randint(0, 12, (3, 36)), torch.randn(3, 24), torch.arange(38)[None]
    state, _ = model(model.start(3, 36), tokens, rows, places)
    batch = Batch(tokens, tokens, torch.arange(3), places)
    steps = torch.tensor([1, 4, 3])
    found = go_on_target(model, state, batch, rows, steps)
    _, following = model(state, tokens, rows, places)
    assert found is not None
    assert not found.requires_grad
    for i, step in enumerate(steps.tolist()):
        halt, go_on = float(following.halt[i].detach()), float(following.go_on[i].detach())
        value = halt if step == 4 else max(halt, go_on)
        assert float(found[i]) == pytest.approx(1 / (1 + math.exp(-value)), abs=1e-6)
    assert go_on_target(build(TRM).float(), state, batch, rows, steps) is None


def test_halted_sequences_begin_again_and_others_go_on() -> None:
    model = build(SMALL).float()
    state = State(torch.randn(2, 38, 16), torch.randn(2, 38, 16))
    found = restarted(model, state, torch.tensor([True, False]))
    torch.testing.assert_close(found.high[0], model.H_init.expand(38, -1))
    torch.testing.assert_close(found.low[0], model.L_init.expand(38, -1))
    torch.testing.assert_close(found.high[1], state.high[1])


def test_a_new_model_never_wants_to_halt() -> None:
    torch.manual_seed(0)
    model = Reasoner(SMALL)
    _, answer = model(model.start(4, 36), torch.randint(0, 12, (4, 36)), torch.zeros(4, 24), torch.arange(38)[None])
    assert answer.halt.tolist() == answer.go_on.tolist() == [-5.0] * 4


def test_sign_sgd_equals_a_loop_over_rows_of_the_batch() -> None:
    torch.manual_seed(0)
    embedding = PuzzleEmbedding(6, 3)
    embedding.weights.normal_()
    before = embedding.weights.clone()
    identities, gradients = torch.tensor([4, 1, 4, 5]), torch.randn(4, 3)
    gradients[3] = 0
    sign_sgd(embedding.weights, identities, gradients, 0.1, 0.5)
    for row in range(6):
        total = sum((gradients[i] for i in range(4) if identities[i] == row), torch.zeros(3))
        expected = before[row] * (1 - 0.1 * 0.5) - 0.1 * total.sign() if row in (1, 4, 5) else before[row]
        torch.testing.assert_close(embedding.weights[row], expected)


def test_initial_weights_have_their_documented_spread() -> None:
    torch.manual_seed(0)
    model = Reasoner(replace(SMALL, hidden_size=256, num_heads=4, puzzle_emb_ndim=0))
    weight = model.L_level.layers[0].self_attn.qkv_proj.weight  # type: ignore[union-attr]
    assert isinstance(weight, Tensor)
    assert float(weight.std().detach()) == pytest.approx(1 / 16, rel=0.02)
    assert float(weight.abs().max().detach()) <= 2 / 16 / 0.8796
    assert float(model.embed_tokens.std().detach()) == pytest.approx(1 / 16, rel=0.05)
