"""What a policy achieves on puzzles: every puzzle tried once, always with the action that it thinks best."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.environment.episodes import Episodes, Observation
from jepa_hrl.rl.environment.problems import Puzzle
from jepa_hrl.rl.policy.actor_critic import Batch, Foresight
from jepa_hrl.rl.policy.agent import Agent

_AT_ONCE = 256
_REMEMBERED = 100_000  # grids that one measurement leaves for the next, of the same puzzles


@dataclass(frozen=True)
class Tried:
    """What became of P puzzles, (P,) each.

    Attributes:
        grounded: the real grids became the goals.
        claimed: the latents called it solved.
        actions, decisions: done and chosen, those in vain among them; options are one decision each.
        wanted: actions of the program that made the puzzle.
        reward: sum of the episode.
    """

    grounded: npt.NDArray[np.bool_]
    claimed: npt.NDArray[np.bool_]
    actions: npt.NDArray[np.int64]
    decisions: npt.NDArray[np.int64]
    wanted: npt.NDArray[np.int64]
    reward: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """Shares and means over puzzles.

    Attributes:
        success: share whose real grids became the goals.
        latent_only: share that latents called solved and the real grids did not bear out.
        length, decisions: mean actions and choices of the grounded successes.
        length_ratio: of their length to the mean length of the programs that the same puzzles were made by.
        reward: mean sum of an episode.
        by_length: success by the length of the puzzle's program.
    """

    puzzles: int
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


def measured(tried: Tried) -> Measured:
    """The shares and means of tries."""
    solved, wanted = tried.grounded, tried.wanted

    def mean(values: npt.NDArray[np.int64]) -> float:
        return float(values[solved].mean()) if solved.any() else 0.0

    by_length = {str(n): float(solved[wanted == n].mean()) for n in np.unique(wanted).tolist()}
    return Measured(
        len(solved), float(solved.mean()), float((tried.claimed & ~solved).mean()), mean(tried.actions),
        mean(tried.decisions), mean(tried.actions) / max(mean(wanted), 1e-9), float(tried.reward.mean()), by_length,
    )  # fmt: skip


def batch_of(observation: Observation, foresight: Foresight | None, device: torch.device) -> Batch:
    """Observations on a device, with what is foreseen."""
    current, goal, step = (torch.from_numpy(observation[name]).to(device) for name in ("current", "goal", "step"))
    mask = torch.from_numpy(observation["action_mask"]).to(device).bool()
    nearness = current.new_zeros(len(current), 0) if foresight is None else foresight(current, goal, mask)
    return Batch(current, goal, step, mask, nearness)


@torch.no_grad()
def try_all(agent: Agent, puzzles: Sequence[Puzzle], config: EnvConfig) -> Tried:
    """Tries every puzzle once."""
    parts = [_tried(agent, puzzles[n : n + _AT_ONCE], config) for n in range(0, len(puzzles), _AT_ONCE)]
    return Tried(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _tried(agent: Agent, puzzles: Sequence[Puzzle], config: EnvConfig) -> tuple[npt.NDArray[Any], ...]:
    count = len(puzzles)
    if len(agent.world) > _REMEMBERED:
        agent.world.forget()
    episodes = Episodes(agent.world, puzzles, config, count, agent.options)
    episodes.begin(range(count), np.arange(count))
    grounded, claimed, reward = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool), np.zeros(count)
    decisions, actions = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)

    def choose(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        batch = batch_of(episodes.observation(rows), agent.foresight, agent.world.device)
        choices: npt.NDArray[np.int64] = agent.policy(batch)[0].argmax(dim=1).cpu().numpy()
        return choices

    for running, _, result, ended in episodes.play(choose):
        decisions += running & (result.duration > 0)
        actions += result.duration * running
        reward += result.reward * running
        grounded[ended], claimed[ended] = result.grounded[ended], result.success[ended]
    wanted = np.array([puzzle.length for puzzle in puzzles], dtype=np.int64)
    return grounded, claimed, actions, decisions, wanted, reward
