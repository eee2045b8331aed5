"""Greedy evaluation: every problem is tried once, always with the policy's likeliest choice. P problems."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.environment.episodes import BatchedEpisodes, Observation
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.policy.actor_critic import Batch, OneStepLookahead
from jepa_hrl.rl.policy.agent import Agent

_EPISODES_AT_ONCE = 256
_MAX_CACHED_GRIDS = 100_000  # kept for the next evaluation, which is of the same problems


@dataclass(frozen=True)
class EpisodeOutcomes:
    """How the episodes of P problems ended, (P,) each.

    Attributes:
        grounded: the real grids became the goals.
        latent_success: the environment paid the bonus, which with model dynamics depends on latents alone.
        actions, decisions: actions done and choices made, also those without effect; an option is one decision.
        program_length: actions of the program that made the problem.
        reward: undiscounted sum over the episode.
    """

    grounded: npt.NDArray[np.bool_]
    latent_success: npt.NDArray[np.bool_]
    actions: npt.NDArray[np.int64]
    decisions: npt.NDArray[np.int64]
    program_length: npt.NDArray[np.int64]
    reward: npt.NDArray[np.float64]


@dataclass(frozen=True)
class EvalMetrics:
    """Shares and means over problems.

    Attributes:
        problems: P.
        success: share of problems whose real grids became the goals.
        latent_only: share of problems solved according to the latents but not on the real grids.
        length, decisions: mean actions and mean choices of the solved problems.
        length_ratio: their mean length over the mean length of the programs that made the same problems.
        reward: mean undiscounted sum of an episode.
        by_length: success by the length of the program that made the problem.
    """

    problems: int
    success: float
    latent_only: float
    length: float
    decisions: float
    length_ratio: float
    reward: float
    by_length: dict[str, float]

    def metrics(self, prefix: str) -> dict[str, float]:
        """Returns the numbers as metrics named `prefix/...`."""
        values = asdict(self)
        lengths = values.pop("by_length")
        values.pop("problems")
        return {f"{prefix}/{name}": value for name, value in values.items()} | {
            f"{prefix}/success_length_{length}": value for length, value in lengths.items()
        }


def summarize(outcomes: EpisodeOutcomes) -> EvalMetrics:
    """Returns the shares and means of episodes' outcomes."""
    solved, program_length = outcomes.grounded, outcomes.program_length

    def mean_of_solved(values: npt.NDArray[np.int64]) -> float:
        return float(values[solved].mean()) if solved.any() else 0.0

    length = mean_of_solved(outcomes.actions)
    by_length = {str(n): float(solved[program_length == n].mean()) for n in np.unique(program_length).tolist()}
    return EvalMetrics(
        problems=len(solved),
        success=float(solved.mean()),
        latent_only=float((outcomes.latent_success & ~solved).mean()),
        length=length,
        decisions=mean_of_solved(outcomes.decisions),
        length_ratio=length / max(mean_of_solved(program_length), 1e-9),
        reward=float(outcomes.reward.mean()),
        by_length=by_length,
    )


def make_batch(observation: Observation, lookahead: OneStepLookahead | None, device: torch.device) -> Batch:
    """Moves observations to a device and adds the look-ahead scores.

    Args:
        observation: of N episodes, as the environment gives it.
        lookahead: what scores the actions; None for a policy without look-ahead.
        device: that of the policy.
    """
    current, goal, step = (torch.from_numpy(observation[name]).to(device) for name in ("current", "goal", "step"))
    mask = torch.from_numpy(observation["action_mask"]).to(device).bool()
    scores = current.new_zeros(len(current), 0) if lookahead is None else lookahead(current, goal, mask)
    return Batch(current, goal, step, mask, scores)


@torch.no_grad()
def evaluate_greedy(agent: Agent, problems: Sequence[Problem], config: EnvConfig) -> EpisodeOutcomes:
    """Plays one episode of every problem with the policy's likeliest choices.

    Args:
        agent: policy and world model.
        problems: P problems.
        config: environment of the episodes.
    """
    parts = [
        _evaluate_batch(agent, problems[first : first + _EPISODES_AT_ONCE], config)
        for first in range(0, len(problems), _EPISODES_AT_ONCE)
    ]
    return EpisodeOutcomes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def evaluate_policy(agent: Agent, problems: Sequence[Problem], config: EnvConfig) -> EvalMetrics:
    """Plays one episode of every problem with the policy's likeliest choices, and returns the metrics.

    Args:
        agent: policy and world model.
        problems: P problems.
        config: environment of the episodes.
    """
    return summarize(evaluate_greedy(agent, problems, config))


def _evaluate_batch(agent: Agent, problems: Sequence[Problem], config: EnvConfig) -> tuple[npt.NDArray[Any], ...]:
    """Returns the columns of `EpisodeOutcomes` for problems that are played side by side."""
    count = len(problems)
    if len(agent.cache) > _MAX_CACHED_GRIDS:
        agent.cache.forget()
    episodes = BatchedEpisodes(agent.cache, problems, config, count, agent.options)
    episodes.reset(range(count), np.arange(count))
    grounded, latent_success = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    decisions, actions, reward = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64), np.zeros(count)

    def choose(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        batch = make_batch(episodes.observation(rows), agent.lookahead, agent.cache.device)
        choices: npt.NDArray[np.int64] = agent.policy(batch)[0].argmax(dim=1).cpu().numpy()
        return choices

    for running, _, result, ended in episodes.play(choose):
        decisions += running & (result.duration > 0)
        actions += result.duration * running
        reward += result.reward * running
        grounded[ended], latent_success[ended] = result.grounded[ended], result.success[ended]
    program_length = np.array([problem.length for problem in problems], dtype=np.int64)
    return grounded, latent_success, actions, decisions, program_length, reward
