"""The data set of imitation, and that a policy learns it."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from arc_core.progress import Progress
from jepa_hrl.rl.config import EnvConfig, PolicyConfig
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.environment.transition_cache import TransitionCache
from jepa_hrl.rl.imitation.demonstrations import collect_demonstrations, resample_pairs
from jepa_hrl.rl.imitation.expert import ProgramExpert, execute_trace, longest_shortcut
from jepa_hrl.rl.policy.actor_critic import Batch
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.evaluation import evaluate_greedy, evaluate_policy
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

GROUNDED = EnvConfig(dynamics="grounded", max_steps=5)


def test_a_cloned_policy_does_what_was_demonstrated(
    jepa: LoadedProgramJepa, problems: list[Problem], progress: Progress, imitate: Callable[..., torch.Tensor]
) -> None:
    agent = Agent(jepa, PolicyConfig(64), 0)
    demonstrations = collect_demonstrations(problems, agent.lookahead, agent.cache, GROUNDED, 1, progress)
    steps = 0
    for problem in problems:
        inputs, goals = agent.cache.intern_problem(problem)
        path, index = execute_trace(agent.cache, inputs, problem.trace, goals) if problem.trace else [], 0
        while index < len(problem.trace):
            index, steps = longest_shortcut(problem.trace, path or [], index, agent.cache)[1], steps + 1
    assert len(demonstrations) == steps
    assert demonstrations.batch.mask.gather(1, demonstrations.actions[:, None]).all()
    imitate(agent, demonstrations, 150)
    traced = [problem for problem in problems if problem.trace]
    assert evaluate_policy(agent, traced, GROUNDED).success > 0.8


def test_a_policy_shown_strays_learns_to_undo(
    jepa: LoadedProgramJepa, problems: list[Problem], progress: Progress, imitate: Callable[..., torch.Tensor]
) -> None:
    config = dataclasses.replace(GROUNDED, undo=True, max_steps=8)
    agent = Agent(jepa, PolicyConfig(64), 0, undo=True)
    demonstrations = collect_demonstrations(problems, agent.lookahead, agent.cache, config, 1, progress, 0.25, 5)
    again = collect_demonstrations(problems, agent.lookahead, agent.cache, config, 1, progress, 0.25, 5)
    assert torch.equal(demonstrations.actions, again.actions)
    undo = len(jepa.actions)
    # A third at most on average: a quarter of all steps stray, also off the path.
    undone = demonstrations.actions == undo
    assert 0.05 < undone.float().mean() < 0.4
    assert demonstrations.batch.mask.gather(1, demonstrations.actions[:, None]).all()
    log_probabilities = imitate(agent, demonstrations, 200)
    assert (log_probabilities.argmax(dim=1) == demonstrations.actions)[undone].float().mean() > 0.7
    traced = [problem for problem in problems if problem.trace]
    assert evaluate_policy(agent, traced, config).success > 0.8


def test_resampled_demonstrations_stay_pairs_of_their_task() -> None:
    rows, code = 400, torch.arange(3.0)[None, :, None].expand(400, 3, 2) + 10 * torch.arange(400.0)[:, None, None]
    nothing = torch.zeros(rows, 1)
    batch = Batch(code, code + 0.5, nothing, nothing > 0, nothing)
    resampled = resample_pairs(batch, 0.5, np.random.default_rng(0))
    assert torch.equal(resampled.goal, resampled.current + 0.5)
    assert torch.equal(resampled.current // 10, code // 10)
    changed = (resampled.current != code).any(dim=(1, 2)).float().mean().item()
    assert changed == pytest.approx(0.5 * (1 - 1 / 27), abs=0.08)  # of 27 draws one is as it was
    assert torch.equal(resample_pairs(batch, 0.0, np.random.default_rng(0)).current, code)


def test_an_experts_options_are_demonstrated_wherever_one_begins_the_rest(
    jepa: LoadedProgramJepa,
    problems: list[Problem],
    transitions: TransitionCache,
    progress: Progress,
    imitate: Callable[..., torch.Tensor],
) -> None:
    traced = [problem for problem in problems if len(problem.trace) > 1]
    programs = [ProgramExpert(problem, transitions).actions(4) for problem in traced]
    options = (programs[0][:1] * 3, *dict.fromkeys(rest[:2] for rest in programs if len(rest) > 1))
    agent = Agent(jepa, PolicyConfig(32), 0, options)
    demonstrations = collect_demonstrations(
        traced, agent.lookahead, agent.cache, GROUNDED, 1, progress, options=options
    )
    plain = collect_demonstrations(traced, agent.lookahead, agent.cache, GROUNDED, 1, progress)
    first = len(jepa.actions)
    assert len(demonstrations) == len(plain)
    assert demonstrations.batch.mask.gather(1, demonstrations.actions[:, None]).all()
    for one, other in zip(demonstrations.actions.tolist(), plain.actions.tolist(), strict=True):
        assert (options[one - first][0] if first <= one < first + len(options) else one) == other
    # The first option begins no program.
    assert (demonstrations.actions[: len(traced)] > first).sum() == sum(len(rest) > 1 for rest in programs)
    imitate(agent, demonstrations, 200)
    outcomes = evaluate_greedy(agent, traced, GROUNDED)
    assert (outcomes.decisions < outcomes.actions)[outcomes.grounded].mean() > 0.5
