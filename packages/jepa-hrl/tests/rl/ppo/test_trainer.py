"""The training loop of PPO and REINFORCE: it learns, and resumes exactly."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.policy.evaluation import evaluate_policy
from jepa_hrl.rl.ppo.trainer import Trainer

GROUNDED = EnvConfig(dynamics="grounded", max_steps=5)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "reinforce"])
def test_a_trivial_environment_is_solved(
    make_trainer: Callable[..., Trainer], problems: list[Problem], algorithm: Any
) -> None:
    """Problems of one action each: the latents of input and goal tell which."""
    easy = [problem for problem in problems if len(problem.trace) == 1]
    iterations = 30 if algorithm == "ppo" else 200  # of one pass each, where PPO makes four
    trainer = make_trainer(easy, algorithm=algorithm, iterations=iterations)
    before = evaluate_policy(trainer.agent, easy, GROUNDED).success
    for _ in range(iterations):
        metrics = trainer.iteration()
    after = evaluate_policy(trainer.agent, easy, GROUNDED)
    assert before < 0.5 < 0.9 < after.success, (before, after)
    assert metrics["train/success"] > 0.8 and after.length_ratio < 1.5


def test_a_loaded_trainer_goes_on_as_if_nothing_had_happened(
    make_trainer: Callable[..., Trainer], problems: list[Problem], tmp_path: Path
) -> None:
    whole = make_trainer(problems, episodes_per_iter=8, epochs=2, minibatches=2)
    for _ in range(2):
        whole.iteration()
    state = whole.state()
    saved = dataclasses.replace(state, model={name: value.clone() for name, value in state.model.items()})
    torch.save(state.optimizer, tmp_path / "optimizer.pt")
    expected = whole.iteration()
    parted = make_trainer(problems, episodes_per_iter=8, epochs=2, minibatches=2)
    parted.load(dataclasses.replace(saved, optimizer=torch.load(tmp_path / "optimizer.pt", weights_only=True)))
    assert parted.iteration() == expected
    for name, value in whole.agent.policy.state_dict().items():
        assert torch.equal(value, parted.agent.policy.state_dict()[name])
