"""What a policy achieves on problems: every problem tried once, always with the action that it thinks best."""

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

_AT_ONCE = 256
_REMEMBERED = 100_000  # grids that one measurement leaves for the next, of the same problems


@dataclass(frozen=True)
class EpisodeOutcomes:
    """What became of P problems, (P,) each.

    Attributes:
        grounded: the real grids became the goals.
        claimed: the latents called it solved.
        actions, decisions: done and chosen, those in vain among them; options are one decision each.
        wanted: actions of the program that made the problem.
        reward: sum of the episode.
    """

    grounded: npt.NDArray[np.bool_]
    claimed: npt.NDArray[np.bool_]
    actions: npt.NDArray[np.int64]
    decisions: npt.NDArray[np.int64]
    wanted: npt.NDArray[np.int64]
    reward: npt.NDArray[np.float64]


@dataclass(frozen=True)
class EvalMetrics:
    """Shares and means over problems.

    Attributes:
        success: share whose real grids became the goals.
        latent_only: share that latents called solved and the real grids did not bear out.
        length, decisions: mean actions and choices of the grounded successes.
        length_ratio: of their length to the mean length of the programs that the same problems were made by.
        reward: mean sum of an episode.
        by_length: success by the length of the problem's program.
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
        """The numbers as metrics."""
        values = asdict(self)
        lengths = values.pop("by_length")
        values.pop("puzzles")
        return {f"{prefix}/{name}": value for name, value in values.items()} | {
            f"{prefix}/success_length_{length}": value for length, value in lengths.items()
        }


def summarize(tried: EpisodeOutcomes) -> EvalMetrics:
    """The shares and means of tries."""
    solved, wanted = tried.grounded, tried.wanted

    def mean(values: npt.NDArray[np.int64]) -> float:
        return float(values[solved].mean()) if solved.any() else 0.0

    by_length = {str(n): float(solved[wanted == n].mean()) for n in np.unique(wanted).tolist()}
    return EvalMetrics(
        len(solved), float(solved.mean()), float((tried.claimed & ~solved).mean()), mean(tried.actions),
        mean(tried.decisions), mean(tried.actions) / max(mean(wanted), 1e-9), float(tried.reward.mean()), by_length,
    )  # fmt: skip


def make_batch(observation: Observation, lookahead: OneStepLookahead | None, device: torch.device) -> Batch:
    """Observations on a device, with what is foreseen."""
    current, goal, step = (torch.from_numpy(observation[name]).to(device) for name in ("current", "goal", "step"))
    mask = torch.from_numpy(observation["action_mask"]).to(device).bool()
    lookahead_scores = current.new_zeros(len(current), 0) if lookahead is None else lookahead(current, goal, mask)
    return Batch(current, goal, step, mask, lookahead_scores)


@torch.no_grad()
def evaluate_greedy(agent: Agent, problems: Sequence[Problem], config: EnvConfig) -> EpisodeOutcomes:
    """Tries every problem once."""
    parts = [_evaluate_batch(agent, problems[n : n + _AT_ONCE], config) for n in range(0, len(problems), _AT_ONCE)]
    return EpisodeOutcomes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def evaluate_policy(agent: Agent, problems: Sequence[Problem], config: EnvConfig) -> EvalMetrics:
    """Returns the metrics of a policy that always takes its likeliest choice, on every problem once."""
    return summarize(evaluate_greedy(agent, problems, config))


def _evaluate_batch(agent: Agent, problems: Sequence[Problem], config: EnvConfig) -> tuple[npt.NDArray[Any], ...]:
    count = len(problems)
    if len(agent.cache) > _REMEMBERED:
        agent.cache.forget()
    episodes = BatchedEpisodes(agent.cache, problems, config, count, agent.options)
    episodes.reset(range(count), np.arange(count))
    grounded, claimed, reward = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool), np.zeros(count)
    decisions, actions = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)

    def choose(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        batch = make_batch(episodes.observation(rows), agent.lookahead, agent.cache.device)
        choices: npt.NDArray[np.int64] = agent.policy(batch)[0].argmax(dim=1).cpu().numpy()
        return choices

    for running, _, result, ended in episodes.play(choose):
        decisions += running & (result.duration > 0)
        actions += result.duration * running
        reward += result.reward * running
        grounded[ended], claimed[ended] = result.grounded[ended], result.success[ended]
    wanted = np.array([problem.length for problem in problems], dtype=np.int64)
    return grounded, claimed, actions, decisions, wanted, reward
