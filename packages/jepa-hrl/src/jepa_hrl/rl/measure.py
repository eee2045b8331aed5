"""What a policy achieves on puzzles: every puzzle tried once, always with the action that it thinks best."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.episodes import Episodes, Observation
from jepa_hrl.rl.policy import Batch, Foresight, Policy
from jepa_hrl.rl.puzzles import Puzzle
from jepa_hrl.rl.world import World

_AT_ONCE = 256


@dataclass(frozen=True)
class Measured:
    """Shares and means over puzzles.

    Attributes:
        success: shares whose real grids became the goals.
        latent_only: shares that latents called solved and the real grids did not bear out.
        length: mean actions of the grounded successes.
        length_ratio: of it to the mean length of the programs that the same puzzles were made by.
        reward: mean sum of an episode.
        by_length: success by the length of the puzzle's program.
    """

    puzzles: int
    success: float
    latent_only: float
    length: float
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


def batch_of(observation: Observation, foresight: Foresight | None, device: torch.device) -> Batch:
    """Observations on a device, with what is foreseen."""
    current, goal, step = (torch.from_numpy(observation[name]).to(device) for name in ("current", "goal", "step"))
    mask = torch.from_numpy(observation["action_mask"]).to(device).bool()
    nearness = current.new_zeros(len(current), mask.shape[1] - 1)
    if foresight is not None:
        nearness = foresight(current, goal, mask)
    return Batch(current, goal, step, mask, nearness)


@torch.no_grad()
def measure(
    policy: Policy, foresight: Foresight | None, world: World, puzzles: Sequence[Puzzle], config: EnvConfig
) -> Measured:
    """Tries every puzzle."""
    grounded, claimed, taken, rewards = [], [], [], []
    for first in range(0, len(puzzles), _AT_ONCE):
        some = puzzles[first : first + _AT_ONCE]
        episodes = Episodes(world, some, config, len(some))
        episodes.begin(range(len(some)), np.arange(len(some)))
        real, claim = np.zeros(len(some), dtype=bool), np.zeros(len(some), dtype=bool)
        length, total = np.zeros(len(some), dtype=np.int64), np.zeros(len(some))
        running = np.ones(len(some), dtype=bool)
        while running.any():
            batch = batch_of(episodes.observation(), foresight, world.device)
            chosen: Tensor = policy(batch)[0].argmax(dim=1)
            found = episodes.step(np.where(running, chosen.cpu().numpy(), len(world.actions)))
            total += found.reward * running
            ended = running & (found.terminated | found.truncated)
            real[ended], claim[ended] = found.grounded[ended], found.success[ended]
            length[ended] = [len(episodes.taken[row]) for row in np.flatnonzero(ended)]
            running &= ~ended
        grounded.append(real)
        claimed.append(claim & ~real)
        taken.append(length)
        rewards.append(total)
    solved, only, lengths = (np.concatenate(parts) for parts in (grounded, claimed, taken))
    wanted = np.array([puzzle.length for puzzle in puzzles])
    ratio = lengths[solved].mean() / max(wanted[solved].mean(), 1e-9) if solved.any() else 0.0
    by_length = {str(n): float(solved[wanted == n].mean()) for n in np.unique(wanted).tolist()}
    return Measured(
        len(puzzles), float(solved.mean()), float(only.mean()), float(lengths[solved].mean()) if solved.any() else 0.0,
        float(ratio), float(np.concatenate(rewards).mean()), by_length,
    )  # fmt: skip
