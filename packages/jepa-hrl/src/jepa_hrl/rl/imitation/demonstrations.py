"""Behavioural cloning: a policy learns the actions of programs that are known to solve problems."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from joblib import delayed
from torch import Tensor
from torch.nn import functional

from arc_core.progress import Progress
from arc_core.randomness import seed_for
from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.environment.episodes import BatchedEpisodes, Options
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.environment.transition_cache import Integers, TransitionCache
from jepa_hrl.rl.imitation.expert import ProgramExpert
from jepa_hrl.rl.policy.actor_critic import Batch, OneStepLookahead
from jepa_hrl.rl.policy.evaluation import make_batch
from jepa_hrl.workers import run_in_workers

_AT_ONCE = 256


@dataclass(frozen=True)
class Demonstrations:
    """Steps of known programs.

    Attributes:
        batch: what was seen.
        actions: (n,) right, options among them if there are any.
    """

    batch: Batch
    actions: Tensor

    def __len__(self) -> int:
        """Steps."""
        return len(self.actions)


def collect_demonstrations(
    problems: Sequence[Problem], lookahead: OneStepLookahead | None, cache: TransitionCache, config: EnvConfig, workers: int,
    progress: Progress, strays: float = 0.0, seed: int = 0, options: Options = (),
) -> Demonstrations:  # fmt: skip
    """What an agent sees, and what a expert who knows the programs would do, on real grids.

    Puzzles whose program is not known are left out. Programs are followed without their detours.

    Args:
        strays: share of steps at which another action is taken; see `CloningConfig`.
        seed: of these.
        options: the longest one that begins what is left of a program is shown in place of its first action.
    Source: states beside the teacher's way as in Ross, Gordon and Bagnell 2011 (arXiv:1011.0686), but drawn by the
        model's foresight.
    """
    known = [problem for problem in problems if problem.trace]
    grounded = dataclasses.replace(config, dynamics="grounded")
    cache.forget()
    parts = [known[first : first + _AT_ONCE] for first in range(0, len(known), _AT_ONCE)]
    jobs = (
        delayed(_followed)(part, lookahead, cache, grounded, strays, seed_for(seed, "strays", number), options)
        for number, part in enumerate(parts)
    )
    found = []
    for number, made in enumerate(run_in_workers(jobs, workers), 1):
        found.append(made)
        progress.update(min(number * _AT_ONCE, len(known)))
    batches, actions = zip(*found, strict=True)
    return Demonstrations(Batch.concatenate(batches), torch.cat(actions))


@torch.no_grad()
def _followed(
    problems: Sequence[Problem], lookahead: OneStepLookahead | None, cache: TransitionCache, config: EnvConfig, strays: float, seed: int,
    options: Options,
) -> tuple[Batch, Tensor]:  # fmt: skip
    """What is seen and right on the way through some problems."""
    cache.forget()
    random = np.random.default_rng(seed)
    episodes = BatchedEpisodes(cache, problems, config, len(problems), options)
    episodes.reset(range(len(problems)), np.arange(len(problems)))
    experts = [ProgramExpert(problem, cache) for problem in problems]
    most = max(map(len, options), default=1)
    batches: list[Batch] = []
    actions: list[Tensor] = []

    def choose(rows: Integers) -> Integers:
        right, shown = np.full(len(rows), episodes.stop), np.full(len(rows), episodes.stop)
        for place, row in enumerate(rows.tolist()):
            advice = experts[row].actions(most)
            right[place] = advice[0] if advice else episodes.undo
            begun = [number for number, option in enumerate(options) if advice[: len(option)] == option]
            longest = max(begun, key=lambda number: len(options[number]), default=None)
            shown[place] = right[place] if longest is None else len(cache.actions) + longest
        possible = episodes.mask[rows, right] > 0  # not where the way has been strayed onto before
        choices = np.where(possible, right, -1)
        if possible.any():
            batch = make_batch(episodes.observation(rows[possible]), lookahead, cache.device)
            batches.append(batch)
            actions.append(torch.from_numpy(shown[possible]).to(cache.device))
            if strays:
                choices[possible] = _perturb_actions(right[possible], batch, random, strays, len(cache.actions))
        return choices

    for running, choices, result, ended in episodes.play(choose):
        for row in np.flatnonzero(running & ~ended & ~result.refused).tolist():
            if choices[row] == episodes.undo:
                experts[row].observe_undo()
            else:
                experts[row].observe(int(choices[row]), episodes.grids[row].tolist())
    return Batch.concatenate(batches), torch.cat(actions)


def _perturb_actions(
    right: Integers, batch: Batch, random: np.random.Generator, share: float, actions: int
) -> Integers:
    """The right choices, some replaced by other possible actions, the likelier the nearer they are foreseen to lead."""
    others = batch.mask[:, :actions].cpu().numpy().copy()
    on_way = np.flatnonzero(right < actions)
    others[on_way, right[on_way]] = False
    lookahead_scores = (
        batch.lookahead_scores[:, :actions].cpu().numpy() if batch.lookahead_scores.shape[1] else np.zeros(others.shape)
    )
    scores = np.where(others, lookahead_scores + random.gumbel(size=others.shape), -np.inf)
    strays = (random.random(len(right)) < share) & others.any(axis=1)
    found: Integers = np.where(strays, scores.argmax(axis=1), right)
    return found


def resample_pairs(batch: Batch, share: float, random: np.random.Generator) -> Batch:
    """Observations in a share of which the K demonstrations are drawn from themselves anew, some of them twice."""
    rows, demonstrations, width = batch.current.shape
    drawn = random.integers(demonstrations, size=(rows, demonstrations))
    kept = random.random((rows, 1)) >= share
    which = torch.from_numpy(np.where(kept, np.arange(demonstrations), drawn)).to(batch.current.device)
    which = which[:, :, None].expand(-1, -1, width)
    return batch._replace(current=batch.current.gather(1, which), goal=batch.goal.gather(1, which))


def imitation_loss(log_probabilities: Tensor, actions: Tensor) -> Tensor:
    """(n,) minus the log-probabilities of the actions taken, which must be possible."""
    return functional.nll_loss(log_probabilities, actions, reduction="none")
