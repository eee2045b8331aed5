"""Behavioural cloning: a policy learns the actions of programs that are known to solve puzzles."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from joblib import delayed
from torch import Tensor
from torch.nn import functional

from arc_core.progress import Progress
from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.episodes import Episodes
from jepa_hrl.rl.measure import batch_of
from jepa_hrl.rl.policy import Batch, Foresight
from jepa_hrl.rl.puzzles import Puzzle
from jepa_hrl.rl.world import World, mark
from jepa_hrl.workers import in_workers

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
    for number, made in enumerate(in_workers(jobs, workers), 1):
        found.append(made)
        progress.update(min(number * _AT_ONCE, len(known)))
    batches, actions = zip(*found, strict=True)
    return Demonstrated(Batch.joined(batches), torch.cat(actions))


@torch.no_grad()
def _followed(
    puzzles: Sequence[Puzzle], foresight: Foresight | None, world: World, config: EnvConfig
) -> tuple[Batch, Tensor]:
    """The steps of some puzzles' programs, without their detours."""
    world.forget()
    episodes = Episodes(world, puzzles, config, len(puzzles))
    episodes.begin(range(len(puzzles)), np.arange(len(puzzles)))
    ways = [passed(puzzle, world) for puzzle in puzzles]
    places = [0] * len(puzzles)
    batches: list[Batch] = []
    actions: list[Tensor] = []
    while True:
        chosen = np.full(len(puzzles), episodes.stop)
        for row, (puzzle, way) in enumerate(zip(puzzles, ways, strict=True)):
            if places[row] < len(puzzle.trace):
                chosen[row], places[row] = farthest(puzzle.trace, way, places[row], world)
        rows = torch.from_numpy(np.flatnonzero(chosen != episodes.stop)).to(world.device)
        if not len(rows):
            return Batch.joined(batches), torch.cat(actions)
        batches.append(batch_of(episodes.observation(), foresight, world.device).rows(rows))
        actions.append(torch.from_numpy(chosen).to(world.device)[rows])
        episodes.step(chosen)


def passed(puzzle: Puzzle, world: World) -> list[list[int]]:
    """The grids, by number, of a puzzle's demonstrations before, between and after the actions of its program."""
    inputs, goals = world.numbers(puzzle)
    way = [inputs]
    for action in puzzle.trace[:-1]:
        way.append([world.outcome(number, action) for number in way[-1]])
    return [*way, goals]


def farthest(trace: Sequence[int], way: Sequence[Sequence[int]], place: int, world: World) -> tuple[int, int]:
    """The action that leads farthest along a program's way, and how far: a program drawn at random makes detours."""
    changes, marks = world.prospects(way[place][:1])
    for later in range(len(way) - 1, place + 1, -1):
        for action in np.flatnonzero(changes[0] & (marks[0] == mark(world.grids[way[later][0]]))).tolist():
            if [world.outcome(number, action) for number in way[place]] == list(way[later]):
                return action, later
        if later == len(way) - 1 and world.actions.recolor is not None and world.table(way[place], way[later]):
            return world.actions.recolor, later
    return trace[place], place + 1


def imitation_loss(log_probabilities: Tensor, actions: Tensor) -> Tensor:
    """(n,) minus the log-probabilities of the actions taken, which must be possible."""
    return functional.nll_loss(log_probabilities, actions, reduction="none")
