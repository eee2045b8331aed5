"""Rollouts of a trained policy, and their files: a header line about all episodes, then one JSON object a line."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from arc_core.config import build_config
from arc_core.errors import InputError
from arc_core.files import show_path
from arc_core.grid import describe
from arc_core.randomness import generator_for
from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.environment.episodes import BatchedEpisodes
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.evaluation import make_batch
from jepa_hrl.world_model.actions import ActionSet, make_action_set

EPISODES_AT_ONCE = 256
EndReason = Literal["success", "stopped", "truncated"]


@dataclass(frozen=True)
class Header:
    """What all traces of a file share.

    Attributes:
        checkpoint: of the policy.
        manifest: tasks that it acted on.
        dynamics: of the environment; see `EnvConfig`.
        seed: of the choices.
        greedy: whether the likeliest choice was always made, instead of sampling.
        steps: names of the steps whose actions the traces consist of.
    """

    checkpoint: str
    manifest: str
    dynamics: Literal["model", "grounded"]
    seed: int
    greedy: bool
    steps: tuple[str, ...]

    def action_set(self) -> ActionSet:
        """Returns the actions that the traces' names refer to."""
        return make_action_set(self.steps, 10 * len(self.steps))


@dataclass(frozen=True)
class Trace:
    """The record of an episode.

    Attributes:
        episode: index among all episodes.
        task_id, phase: the task and its phase of the curriculum.
        length: steps of the program that made the task; 0 where that is not known.
        actions: names of the actions that were done and not undone.
        ended: how the episode ended.
        grounded: whether the real grids became the goals.
        reward: undiscounted sum.
        distance: of the last latents from the goals', mean over demonstrations.
    """

    episode: int
    task_id: str
    phase: str
    length: int
    actions: tuple[str, ...]
    ended: EndReason
    grounded: bool
    reward: float
    distance: float


Record = TypeVar("Record", Header, Trace)


def read_traces(path: Path) -> tuple[Header, list[Trace]]:
    """Reads a file that `rollout-latent-env` wrote.

    Raises:
        InputError: the file cannot be read, or a line is malformed.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"traces must be a file that rollout-latent-env wrote; {path}: {error}") from None
    if not lines:
        raise InputError(f"{show_path(path)} is empty; write it with rollout-latent-env")
    header = _parse_record(Header, lines[0], f"{show_path(path)}, line 1 (the first, about all episodes)")
    traces = [_parse_record(Trace, text, f"{show_path(path)}, line {line}") for line, text in enumerate(lines[1:], 2)]
    return header, traces


def _parse_record(kind: type[Record], line: str, source: str) -> Record:
    """Parses a line and checks every field.

    Args:
        kind: class of the record.
        line: JSON text.
        source: where the line is, for messages.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{source}: must be JSON that rollout-latent-env wrote; got {line[:40]!a}") from None
    names = [field.name for field in fields(kind)]
    if not isinstance(value, dict) or value.keys() != set(names):
        got = ", ".join(value) if isinstance(value, dict) else describe(value)
        raise InputError(f"{source}: must have {', '.join(names)}; got {got:.100}")
    return build_config(kind, value, source)[0]


@torch.no_grad()
def roll_out(
    agent: Agent, problems: Sequence[Problem], config: EnvConfig, first: int, seed: int, greedy: bool
) -> list[Trace]:
    """Plays one episode of each problem.

    Args:
        agent: policy and world model.
        problems: problems, one an episode.
        config: environment.
        first: index of the first episode, which names the random streams.
        seed: of the sampled choices.
        greedy: whether to make the likeliest choice instead of sampling one.
    Returns:
        The episodes' traces, in the problems' order.
    """
    agent.cache.forget()
    episodes = BatchedEpisodes(agent.cache, problems, config, len(problems))
    episodes.reset(range(len(problems)), np.arange(len(problems)))
    rewards = np.zeros(len(problems))
    traces: dict[int, Trace] = {}
    steps = count()

    def choose(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        step = next(steps)
        log_probabilities, _ = agent.policy(make_batch(episodes.observation(rows), agent.lookahead, agent.cache.device))
        if not greedy:
            noise = [generator_for(seed, f"rollout {first + row}", step).gumbel(size=episodes.stop + 1)
                     for row in rows.tolist()]  # fmt: skip
            log_probabilities = log_probabilities + torch.from_numpy(np.stack(noise)).float().to(agent.cache.device)
        choices: npt.NDArray[np.int64] = log_probabilities.argmax(dim=1).cpu().numpy()
        return choices

    for running, _, result, just_ended in episodes.play(choose):
        rewards += result.reward * running
        for row in np.flatnonzero(just_ended).tolist():
            problem = problems[row]
            reason: EndReason = (
                "success" if result.success[row] else "stopped" if result.terminated[row] else "truncated"
            )
            names = tuple(agent.jepa.actions.names[action] for action in episodes.actions_taken[row])
            traces[row] = Trace(
                first + row, problem.name, problem.phase, problem.length, names, reason, bool(result.grounded[row]),
                round(float(rewards[row]), 6), round(float(result.distance[row]), 6),
            )  # fmt: skip
    return [traces[row] for row in range(len(problems))]
