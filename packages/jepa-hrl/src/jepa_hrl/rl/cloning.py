"""Behavioural cloning: a policy learns the actions of programs that are known to solve puzzles."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor
from torch.nn import functional

from arc_core.progress import Progress
from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.episodes import Episodes
from jepa_hrl.rl.measure import batch_of
from jepa_hrl.rl.policy import Batch, Foresight
from jepa_hrl.rl.puzzles import Puzzle
from jepa_hrl.rl.world import World
from jepa_hrl.search.workers import unwarned_renewal

_AT_ONCE = 256


@dataclass(frozen=True)
class Demonstrated:
    """Steps of known programs.

    Attributes:
        batch: what was seen.
        actions: (n,) taken.
    """

    batch: Batch
    actions: Tensor

    def __len__(self) -> int:
        """Steps."""
        return len(self.actions)


def demonstrate(
    puzzles: Sequence[Puzzle], foresight: Foresight | None, world: World, config: EnvConfig, workers: int,
    progress: Progress,
) -> Demonstrated:  # fmt: skip
    """What an agent sees and does that follows the known programs, on real grids; puzzles without one are left out."""
    known = [puzzle for puzzle in puzzles if puzzle.trace]
    grounded = dataclasses.replace(config, dynamics="grounded")
    world.forget()
    parts = [known[first : first + _AT_ONCE] for first in range(0, len(known), _AT_ONCE)]
    jobs = (delayed(_followed)(part, foresight, world, grounded) for part in parts)
    found = []
    with unwarned_renewal():
        for number, made in enumerate(Parallel(n_jobs=workers, return_as="generator")(jobs), 1):
            found.append(made)
            progress.update(min(number * _AT_ONCE, len(known)))
    batches, actions = zip(*found, strict=True)
    return Demonstrated(Batch.joined(batches), torch.cat(actions))


@torch.no_grad()
def _followed(
    puzzles: Sequence[Puzzle], foresight: Foresight | None, world: World, config: EnvConfig
) -> tuple[Batch, Tensor]:
    """The steps of some puzzles' programs."""
    world.forget()
    episodes = Episodes(world, puzzles, config, len(puzzles))
    episodes.begin(range(len(puzzles)), np.arange(len(puzzles)))
    batches, actions = [], []
    for step in range(max(len(puzzle.trace) for puzzle in puzzles)):
        there = np.array([step < len(puzzle.trace) for puzzle in puzzles])
        chosen = [puzzle.trace[step] if on else episodes.stop for puzzle, on in zip(puzzles, there, strict=True)]
        rows = torch.from_numpy(np.flatnonzero(there)).to(world.device)
        batches.append(batch_of(episodes.observation(), foresight, world.device).rows(rows))
        actions.append(torch.tensor(chosen, device=world.device)[rows])
        episodes.step(np.array(chosen, dtype=np.int64))
    return Batch.joined(batches), torch.cat(actions)


def imitation_loss(log_probabilities: Tensor, actions: Tensor) -> Tensor:
    """(n,) minus the log-probabilities of the actions taken, which must be possible."""
    return functional.nll_loss(log_probabilities, actions, reduction="none")
