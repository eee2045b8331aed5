"""The data set of imitation: observations, and the actions of an expert that knows a program of each problem.

Shapes: n examples, K demonstrations of a problem, D latent channels, A actions, C choices.
"""

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
from arc_core.transfer import upload
from arc_core.workers import run_in_workers
from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.environment.episodes import BatchedEpisodes, Options
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.environment.transition_cache import Integers, TransitionCache
from jepa_hrl.rl.imitation.expert import ProgramExpert
from jepa_hrl.rl.policy.actor_critic import Batch, OneStepLookahead
from jepa_hrl.rl.policy.evaluation import make_batch

_EPISODES_AT_ONCE = 256


@dataclass(frozen=True)
class Demonstrations:
    """Observations with the expert's choices.

    Attributes:
        batch: n observations.
        actions: (n,) int64 choices of the expert: actions, options if there are any, or undoing.
    """

    batch: Batch
    actions: Tensor

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.actions)


def collect_demonstrations(
    problems: Sequence[Problem], lookahead: OneStepLookahead | None, cache: TransitionCache, config: EnvConfig,
    workers: int, progress: Progress, strays: float = 0.0, seed: int = 0, options: Options = (),
) -> Demonstrations:  # fmt: skip
    """Plays problems with the expert's choices on real grids, and records what an agent would observe.

    Problems without a known program are left out. Programs are followed without their detours.

    Args:
        problems: problems to play, one episode each.
        lookahead: scores of actions that the policy is given; None for none.
        cache: transitions and latents of grids.
        config: environment; its dynamics are replaced by grounded ones.
        workers: processes; -1 for one a core.
        progress: updated with the number of problems played.
        strays: probability at each step of acting otherwise than the expert, see `CloningConfig`; 0..1. The expert's
            choice is recorded all the same.
        seed: of the strays.
        options: sequences of actions; where one begins what is left of the program, the longest such option is the
            expert's choice.
    Source: states beside the expert's path as in Ross, Gordon and Bagnell 2011, arXiv:1011.0686.
        Differs: the other actions come from the look-ahead, not from the learner.
    """
    solvable = [problem for problem in problems if problem.trace]
    grounded = dataclasses.replace(config, dynamics="grounded")
    cache.forget()
    parts = [solvable[first : first + _EPISODES_AT_ONCE] for first in range(0, len(solvable), _EPISODES_AT_ONCE)]
    calls = (
        delayed(_play_expert)(part, lookahead, cache, grounded, strays, seed_for(seed, "strays", index), options)
        for index, part in enumerate(parts)
    )
    results = []
    for count, result in enumerate(run_in_workers(calls, workers), 1):
        results.append(result)
        progress.update(min(count * _EPISODES_AT_ONCE, len(solvable)))
    batches, actions = zip(*results, strict=True)
    return Demonstrations(Batch.concatenate(batches), torch.cat(actions))


@torch.no_grad()
def _play_expert(
    problems: Sequence[Problem], lookahead: OneStepLookahead | None, cache: TransitionCache, config: EnvConfig,
    strays: float, seed: int, options: Options,
) -> tuple[Batch, Tensor]:  # fmt: skip
    """Returns the observations and the expert's choices of problems that are played side by side."""
    cache.forget()
    random = np.random.default_rng(seed)
    episodes = BatchedEpisodes(cache, problems, config, len(problems), options)
    episodes.reset(range(len(problems)), np.arange(len(problems)))
    experts = [ProgramExpert(problem, cache) for problem in problems]
    max_actions = max(map(len, options), default=1)
    batches: list[Batch] = []
    actions: list[Tensor] = []

    def choose(rows: Integers) -> Integers:
        # `first_actions` are done, and `labels` recorded; they differ where an option is the expert's choice.
        first_actions, labels = np.full(len(rows), episodes.stop), np.full(len(rows), episodes.stop)
        for index, row in enumerate(rows.tolist()):
            rest = experts[row].actions(max_actions)
            first_actions[index] = rest[0] if rest else episodes.undo
            matching = [which for which, option in enumerate(options) if rest[: len(option)] == option]
            longest = max(matching, key=lambda which: len(options[which]), default=None)
            labels[index] = first_actions[index] if longest is None else len(cache.actions) + longest
        # The mask forbids the expert's action where a stray has visited its grid before; the episode ends there.
        allowed = episodes.mask[rows, first_actions] > 0
        choices = np.where(allowed, first_actions, -1)
        if allowed.any():
            batch = make_batch(episodes.observation(rows[allowed]), lookahead, cache.device)
            batches.append(batch)
            actions.append(torch.from_numpy(labels[allowed]).to(cache.device))
            if strays:
                choices[allowed] = _perturb_actions(first_actions[allowed], batch, random, strays, len(cache.actions))
        return choices

    for running, choices, result, ended in episodes.play(choose):
        for row in np.flatnonzero(running & ~ended & ~result.refused).tolist():
            if choices[row] == episodes.undo:
                experts[row].observe_undo()
            else:
                experts[row].observe(int(choices[row]), episodes.grids[row].tolist())
    return Batch.concatenate(batches), torch.cat(actions)


def _perturb_actions(
    choices: Integers, batch: Batch, random: np.random.Generator, probability: float, actions: int
) -> Integers:
    """Returns the expert's choices, some replaced by another allowed action.

    Args:
        choices: (n,) choices of the expert.
        batch: n observations.
        random: source of the draws.
        probability: of replacing a choice; 0..1.
        actions: A. The other action is sampled from the softmax of the look-ahead scores, uniformly without them.
    """
    others = batch.mask[:, :actions].cpu().numpy().copy()
    with_action = np.flatnonzero(choices < actions)
    others[with_action, choices[with_action]] = False
    scores = batch.lookahead_scores[:, :actions].cpu().numpy()
    if not scores.shape[1]:
        scores = np.zeros(others.shape)
    noisy_scores = np.where(others, scores + random.gumbel(size=others.shape), -np.inf)
    replaced = (random.random(len(choices)) < probability) & others.any(axis=1)
    perturbed: Integers = np.where(replaced, noisy_scores.argmax(axis=1), choices)
    return perturbed


def resample_pairs(batch: Batch, probability: float, random: np.random.Generator) -> Batch:
    """Returns observations in some of which the K demonstrations are drawn from themselves with replacement.

    Some demonstrations then occur twice and others not at all, so that the policy relies on no single one.

    Args:
        batch: n observations.
        probability: of resampling an observation; 0..1.
        random: source of the draws.
    """
    rows, demonstrations, width = batch.current.shape
    resampled = random.integers(demonstrations, size=(rows, demonstrations))
    unchanged = random.random((rows, 1)) >= probability
    (indices,) = upload([np.where(unchanged, np.arange(demonstrations), resampled)], batch.current.device)
    indices = indices[:, :, None].expand(-1, -1, width)
    return batch._replace(current=batch.current.gather(1, indices), goal=batch.goal.gather(1, indices))


def imitation_loss(log_probabilities: Tensor, actions: Tensor) -> Tensor:
    """Returns the (n,) negative log-likelihood of the expert's choices.

    Args:
        log_probabilities: (n, C) of the policy.
        actions: (n,) choices, which the mask must allow.
    """
    return functional.nll_loss(log_probabilities, actions, reduction="none")
