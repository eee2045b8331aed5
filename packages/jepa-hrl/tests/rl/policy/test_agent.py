"""Loading policies: into agents with more choices, and from checkpoints with older names of weights."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from arc_core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from arc_core.config import config_to_dict
from arc_core.errors import InputError
from jepa_hrl.rl.config import CLONING_METHOD, METHOD, EnvConfig, PolicyConfig, ReasonerConfig
from jepa_hrl.rl.environment.episodes import BatchedEpisodes
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.policy.agent import Agent, load_agent
from jepa_hrl.rl.policy.evaluation import make_batch
from jepa_hrl.rl.ppo.trainer import Trainer
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

GROUNDED = EnvConfig(dynamics="grounded", max_steps=5)
Weights = dict[str, torch.Tensor]


def log_probabilities(agent: Agent, problems: list[Problem]) -> torch.Tensor:
    """What an agent thinks of the first step of some problems."""
    episodes = BatchedEpisodes(agent.cache, problems, GROUNDED, 6, agent.options)
    episodes.reset(range(6), np.arange(6))
    scores: torch.Tensor = agent.policy(make_batch(episodes.observation(), agent.lookahead, agent.cache.device))[0]
    return scores


def make_checkpoint(agent: Agent, method: str, weights: Weights, averaged: bool = False) -> Checkpoint:
    """A checkpoint of an agent with these weights, as the averaged ones beside others if asked for."""
    last = {name: torch.zeros_like(value) for name, value in weights.items()} if averaged else weights
    return Checkpoint(
        method=method, step=1, model=last, optimizer={}, scheduler={}, extras=agent.extras(),
        config=config_to_dict(ReasonerConfig(policy=PolicyConfig(16))), data_fingerprint="", training_data=(),
        ema=weights if averaged else {},
    )  # fmt: skip


def test_a_policy_widened_by_options_decides_as_before_until_it_learns(
    make_trainer: Callable[..., Trainer], problems: list[Problem]
) -> None:
    narrow = make_trainer(problems)
    wide = make_trainer(problems, options=((0, 1), (1, 2)))
    wide.init_from(narrow.state())
    actions = len(narrow.agent.jepa.actions)
    scores = [log_probabilities(trainer.agent, problems) for trainer in (narrow, wide)]
    # Options, between the actions and stopping, are left out.
    actions_and_stop = [torch.cat([one[:, :actions], one[:, -1:]], dim=1).log_softmax(dim=1) for one in scores]
    torch.testing.assert_close(*actions_and_stop)


@pytest.mark.parametrize(("method", "averaged"), [(METHOD, False), (CLONING_METHOD, False), (CLONING_METHOD, True)])
def test_policies_with_older_names_of_weights_are_loaded(
    jepa: LoadedProgramJepa, problems: list[Problem], tmp_path: Path, method: str, averaged: bool,
    with_old_names: Callable[[Weights], Weights],
) -> None:  # fmt: skip
    agent = Agent(jepa, PolicyConfig(16), 3)
    weights = with_old_names(agent.policy.state_dict())
    file = save_checkpoint(tmp_path, make_checkpoint(agent, method, weights, averaged), True, 1)
    stored = load_checkpoint(file, method)
    assert "act.weight" in stored.model and "trust" in stored.model
    expected = log_probabilities(agent, problems)
    loaded, _ = load_agent(stored, file, torch.device("cpu"))
    assert torch.equal(log_probabilities(loaded, problems), expected)
    learner = Agent(jepa, PolicyConfig(16), 4)
    learner.load_policy(stored)
    assert torch.equal(log_probabilities(learner, problems), expected)
    wide = Agent(jepa, PolicyConfig(16), 4, options=((0, 1),))
    wide.load_policy(stored)
    new = wide.policy.actor.weight[len(jepa.actions)]
    assert torch.equal(new, torch.zeros_like(new))


def test_a_run_with_older_names_of_weights_is_resumed(
    make_trainer: Callable[..., Trainer], problems: list[Problem], with_old_names: Callable[[Weights], Weights]
) -> None:
    trainer, resumed = (make_trainer(problems, episodes_per_iter=8, iterations=2) for _ in range(2))
    trainer.iteration()
    state = trainer.state()
    resumed.load(dataclasses.replace(state, model=with_old_names(dict(state.model))))
    for one, other in zip(
        trainer.agent.policy.state_dict().values(), resumed.agent.policy.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_a_policy_of_another_size_is_refused_in_one_line(jepa: LoadedProgramJepa) -> None:
    larger = Agent(jepa, PolicyConfig(24), 0)
    stored = make_checkpoint(larger, METHOD, larger.policy.state_dict())
    with pytest.raises(InputError, match="must be of the same size") as refused:
        Agent(jepa, PolicyConfig(16), 0).load_policy(stored)
    assert "\n" not in str(refused.value)
