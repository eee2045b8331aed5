"""What tests of the reasoner share: trainers that are ready to run, and imitation to the point of knowing by heart."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from rich.console import Console

from arc_core.progress import Progress
from arc_core.runs import RunFolder
from jepa_hrl.rl.config import EnvConfig, PolicyConfig, ReasonerConfig, TrainerConfig
from jepa_hrl.rl.environment.datasets import ProblemSets
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.imitation.demonstrations import Demonstrations
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.ppo.trainer import Trainer
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa


@pytest.fixture
def progress() -> Progress:
    """A progress line that prints nothing."""
    return Progress(Console(quiet=True), 1, "")


@pytest.fixture
def make_trainer(jepa: LoadedProgramJepa, tmp_path: Path) -> Callable[..., Trainer]:
    """Makes trainers of small policies, each with a run folder of its own; `settings` are of `TrainerConfig`."""

    def make(problems: list[Problem], options: Any = (), **settings: Any) -> Trainer:
        defaults = {"episodes_per_iter": 32, "steps_per_iter": 8, "iterations": 30, "lr": 3e-3}
        trainer = TrainerConfig(**(defaults | settings))
        env = EnvConfig(dynamics="grounded", max_steps=5)
        config = ReasonerConfig(env=env, policy=PolicyConfig(32), trainer=trainer)
        run = RunFolder(tmp_path / f"run{len(list(tmp_path.iterdir()))}")
        run.checkpoints.mkdir(parents=True)
        fabric = Fabric(accelerator="cpu", devices=1)
        fabric.launch()
        agent = Agent(jepa, config.policy, trainer.seed, options)
        return Trainer(config, agent, ProblemSets(problems, problems[:40], ("manifest:none",), "none"), run, fabric)

    return make


@pytest.fixture
def imitate() -> Callable[[Agent, Demonstrations, int], torch.Tensor]:
    """Trains an agent on all demonstrations at once; returns the log-probabilities before the last step."""

    def train(agent: Agent, demonstrations: Demonstrations, steps: int) -> torch.Tensor:
        optimizer = torch.optim.Adam(agent.policy.parameters(), 3e-3)
        for _ in range(steps):
            log_probabilities, _ = agent.policy(demonstrations.batch)
            loss = -log_probabilities.gather(1, demonstrations.actions[:, None]).mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        return log_probabilities

    return train


@pytest.fixture
def with_old_names() -> Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Copies a policy's weights under the names that they had in older checkpoints."""
    parts = {"encoder": "compare", "trunk": "decide", "actor": "act", "critic": "judge", "lookahead_scale": "trust"}

    def rename(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            ".".join((parts[name.split(".")[0]], *name.split(".")[1:])): value.detach().clone()
            for name, value in weights.items()
        }

    return rename
