"""Halting, its exploration, and the target of q_continue."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from hrm.config import ModelConfig
from hrm.inference import run_segments
from hrm.model.halting import Batch, ExplorationNoise, q_continue_target, reset_halted, should_halt
from hrm.model.reasoner import LatentState, Reasoner, SegmentOutput

Build = Callable[[ModelConfig], Reasoner]


def test_halting_equals_a_loop_over_sequences(configs: dict[str, ModelConfig]) -> None:
    torch.manual_seed(0)
    count = 200
    output = SegmentOutput(torch.zeros(count, 1, 12), torch.randn(count), torch.randn(count))
    steps, min_segments = torch.randint(1, 5, (count,)), torch.randint(2, 5, (count,))
    noise = ExplorationNoise(torch.rand(count), min_segments)
    for name in ("hrm", "trm"):
        config = replace(configs[name], halt_exploration_prob=0.4)
        halted = should_halt(config, output, steps, noise)
        for i in range(count):
            q_halt, q_continue = float(output.q_halt[i]), float(output.q_continue[i])
            prefers = q_halt > (0 if name == "trm" else q_continue)
            earliest = int(min_segments[i]) if float(noise.uniform[i]) < 0.4 else 0
            assert bool(halted[i]) == (int(steps[i]) == 4 or (prefers and int(steps[i]) >= earliest))
    assert bool(should_halt(replace(configs["hrm"], halt_max_steps=1), output, steps, noise).all())


def test_the_target_of_q_continue_is_the_best_value_of_the_next_segment(
    configs: dict[str, ModelConfig], build_reasoner: Build
) -> None:
    model = build_reasoner(configs["hrm"]).float()
    tokens, rows, positions = torch.randint(0, 12, (3, 36)), torch.randn(3, 24), torch.arange(38)[None]
    state, _ = model(model.initial_state(3, 36), tokens, rows, positions)
    batch = Batch(tokens, tokens, torch.arange(3), positions)
    steps = torch.tensor([1, 4, 3])
    target = q_continue_target(model, state, batch, rows, steps)
    _, next_output = model(state, tokens, rows, positions)
    assert target is not None
    assert not target.requires_grad
    for i, step in enumerate(steps.tolist()):
        q_halt, q_continue = float(next_output.q_halt[i].detach()), float(next_output.q_continue[i].detach())
        value = q_halt if step == 4 else max(q_halt, q_continue)
        assert float(target[i]) == pytest.approx(1 / (1 + math.exp(-value)), abs=1e-6)
    assert q_continue_target(build_reasoner(configs["trm"]).float(), state, batch, rows, steps) is None


def test_halted_sequences_start_from_the_initial_state_and_others_keep_theirs(
    configs: dict[str, ModelConfig], build_reasoner: Build
) -> None:
    model = build_reasoner(configs["hrm"]).float()
    state = LatentState(torch.randn(2, 38, 16), torch.randn(2, 38, 16))
    reset = reset_halted(model, state, torch.tensor([True, False]))
    torch.testing.assert_close(reset.z_H[0], model.H_init.expand(38, -1))
    torch.testing.assert_close(reset.z_L[0], model.L_init.expand(38, -1))
    torch.testing.assert_close(reset.z_H[1], state.z_H[1])
    torch.testing.assert_close(reset.z_L[1], state.z_L[1])


@pytest.mark.parametrize("name", ["hrm", "trm"])
def test_a_new_model_reasons_for_all_segments_and_one_that_prefers_to_halt_for_one(
    name: str, configs: dict[str, ModelConfig]
) -> None:
    torch.manual_seed(0)
    model = Reasoner(configs[name])
    calls: list[object] = []
    model.register_forward_hook(lambda *_: calls.append(None))
    tokens, rows = torch.randint(0, 12, (4, 36)), torch.randn(4, 24)
    positions = torch.arange(model.prefix_tokens + 36)[None]
    with torch.no_grad():
        run_segments(model, tokens, rows, positions, stop_early=True)
        assert len(calls) == 4  # halt_max_steps
        model.q_head.bias[0] = 1.0  # q_halt, above q_continue and above 0
        run_segments(model, tokens, rows, positions, stop_early=True)
        assert len(calls) == 4 + 1
        run_segments(model, tokens, rows, positions, stop_early=False)
        assert len(calls) == 4 + 1 + 4
