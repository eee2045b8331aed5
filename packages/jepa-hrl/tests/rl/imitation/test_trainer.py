"""The training loop of imitation: dropout and averaged weights."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from arc_core.progress import Progress
from arc_core.runs import RunFolder
from jepa_hrl.rl.config import CloningConfig, EnvConfig, PolicyConfig, ReasonerConfig
from jepa_hrl.rl.environment.datasets import ProblemSets
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.imitation.demonstrations import collect_demonstrations
from jepa_hrl.rl.imitation.trainer import CloningTrainer
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

GROUNDED = EnvConfig(dynamics="grounded", max_steps=5)


MakeTrainer = Callable[[ReasonerConfig], CloningTrainer]


@pytest.fixture
def cloning_trainer(
    jepa: LoadedProgramJepa, problems: list[Problem], tmp_path: Path, progress: Progress
) -> MakeTrainer:
    """Makes trainers that imitate the known programs."""

    def make(config: ReasonerConfig) -> CloningTrainer:
        agent = Agent(jepa, config.policy, 0)
        demonstrations = collect_demonstrations(problems, agent.lookahead, agent.cache, GROUNDED, 1, progress)
        fabric = Fabric(accelerator="cpu", devices=1)
        fabric.launch()
        sets = ProblemSets(problems, problems, (), "")
        return CloningTrainer(config, agent, sets, demonstrations, RunFolder(tmp_path), fabric)

    return make


def test_dropout_is_of_imitation_alone_and_the_same_each_time(cloning_trainer: MakeTrainer) -> None:
    weights, config = [], ReasonerConfig(GROUNDED, policy=PolicyConfig(16, dropout=0.5), cloning=CloningConfig(2, 8))
    for draws in (3, 5):
        trainer = cloning_trainer(config)
        torch.rand(draws)  # the global generator must not matter
        trainer.training_step()
        weights.append(trainer.agent.policy.state_dict()["trunk.0.weight"].clone())
        policy, batch = trainer.agent.policy, trainer.demonstrations.batch
        assert torch.equal(policy(batch)[0], policy(batch)[0])
        policy.train()
        assert not torch.equal(policy(batch)[0], policy(batch)[0])
    assert torch.equal(*weights)


def test_averaged_weights_are_resumed_and_used_by_the_next_training(
    jepa: LoadedProgramJepa, cloning_trainer: MakeTrainer
) -> None:
    config = ReasonerConfig(GROUNDED, policy=PolicyConfig(16), cloning=CloningConfig(2, 8, ema_decay=0.5))
    trainer = cloning_trainer(config)
    weight = trainer.agent.policy.actor.weight
    average = weight.detach().clone()
    for step in range(3):
        trainer.training_step()
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight.detach()
    assert not torch.allclose(average, weight)
    next_agent = Agent(jepa, config.policy, 1)
    next_agent.load_policy(trainer.state())
    torch.testing.assert_close(next_agent.policy.actor.weight, average)
    resumed = cloning_trainer(config)
    resumed.load(copy.deepcopy(trainer.state()))
    for one in (trainer, resumed):
        one.training_step()
    for one_average, other in zip(trainer.state().ema.values(), resumed.state().ema.values(), strict=True):
        assert torch.equal(one_average, other)


def test_a_run_with_older_names_of_weights_is_resumed(
    cloning_trainer: MakeTrainer, with_old_names: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    config = ReasonerConfig(GROUNDED, policy=PolicyConfig(16), cloning=CloningConfig(2, 8, ema_decay=0.5))
    trainer, resumed = cloning_trainer(config), cloning_trainer(config)
    trainer.training_step()
    state = copy.deepcopy(trainer.state())
    resumed.load(dataclasses.replace(state, model=with_old_names(state.model), ema=with_old_names(state.ema)))
    metrics = [one.training_step() for one in (trainer, resumed)]
    assert metrics[0] == metrics[1]
    for name in ("model", "ema"):
        for one, other in zip(*(getattr(t.state(), name).values() for t in (trainer, resumed)), strict=True):
            assert torch.equal(one, other)
