"""`rollout-latent-env`: episodes of a trained policy, one JSON object a line after a first line about them all."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from rich.console import Console

from arc_core.checkpoint import load_checkpoint, resolve_checkpoint
from arc_core.config import build_config, workspace_folder
from arc_core.device import solving_device
from arc_core.errors import InputError, run_command
from arc_core.files import show_path, write_text
from arc_core.grid import describe
from arc_core.progress import Progress
from arc_core.randomness import generator_for
from arc_core.runs import newest_run
from jepa_hrl.programs.actions import ActionSet, make_action_set
from jepa_hrl.rl.agent import Agent, opened_agent
from jepa_hrl.rl.config import METHOD, TRAIN_COMMAND, EnvConfig
from jepa_hrl.rl.data import learnt_manifest
from jepa_hrl.rl.episodes import Episodes
from jepa_hrl.rl.measure import batch_of
from jepa_hrl.rl.puzzles import Puzzle, manifest_puzzles

_AT_ONCE = 256
Ended = Literal["success", "stopped", "truncated"]


@dataclass(frozen=True)
class Header:
    """What all traces of a file share.

    Attributes:
        steps: names of the steps that they are of.
    """

    checkpoint: str
    manifest: str
    dynamics: Literal["model", "grounded"]
    seed: int
    greedy: bool
    steps: tuple[str, ...]

    def action_set(self) -> ActionSet:
        """The actions."""
        return make_action_set(self.steps, 10 * len(self.steps))


@dataclass(frozen=True)
class Trace:
    """An episode.

    Attributes:
        actions: names of those done and not taken back.
        ended: how.
        grounded: the real grids became the goals.
        reward: sum, undiscounted.
        distance: of the last latents from the goals'.
    """

    episode: int
    task_id: str
    phase: str
    length: int
    actions: tuple[str, ...]
    ended: Ended
    grounded: bool
    reward: float
    distance: float


Record = TypeVar("Record", Header, Trace)


def read_traces(path: Path) -> tuple[Header, list[Trace]]:
    """What `rollout-latent-env` wrote.

    Raises:
        InputError: it is no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"traces must be a file that rollout-latent-env wrote; {path}: {error}") from None
    if not lines:
        raise InputError(f"{show_path(path)} is empty; write it with rollout-latent-env")
    header = _record(Header, lines[0], f"{show_path(path)}, line 1 (the first, about all episodes)")
    traces = [_record(Trace, line, f"{show_path(path)}, line {number}") for number, line in enumerate(lines[1:], 2)]
    return header, traces


def _record(kind: type[Record], line: str, place: str) -> Record:
    """A line's record, every field of it checked."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{place}: must be JSON that rollout-latent-env wrote; got {line[:40]!a}") from None
    names = [field.name for field in fields(kind)]
    if not isinstance(value, dict) or value.keys() != set(names):
        got = ", ".join(value) if isinstance(value, dict) else describe(value)
        raise InputError(f"{place}: must have {', '.join(names)}; got {got:.100}")
    return build_config(kind, value, place)[0]


@torch.no_grad()
def roll_out(
    agent: Agent, puzzles: Sequence[Puzzle], config: EnvConfig, first: int, seed: int, greedy: bool
) -> list[Trace]:
    """An episode of each puzzle, numbered from `first`."""
    agent.world.forget()
    episodes = Episodes(agent.world, puzzles, config, len(puzzles))
    episodes.begin(range(len(puzzles)), np.arange(len(puzzles)))
    running, rewards = np.ones(len(puzzles), dtype=bool), np.zeros(len(puzzles))
    traces: dict[int, Trace] = {}
    step = 0
    while running.any():
        rows = np.flatnonzero(running)
        log_probabilities, _ = agent.policy(batch_of(episodes.observation(rows), agent.foresight, agent.world.device))
        if not greedy:
            noise = [generator_for(seed, f"rollout {first + row}", step).gumbel(size=episodes.stop + 1)
                     for row in rows.tolist()]  # fmt: skip
            log_probabilities = log_probabilities + torch.from_numpy(np.stack(noise)).float().to(agent.world.device)
        chosen = np.full(len(puzzles), episodes.stop)
        chosen[rows] = log_probabilities.argmax(dim=1).cpu().numpy()
        found = episodes.step(chosen)
        rewards += found.reward * running
        for row in np.flatnonzero(running & (found.terminated | found.truncated)).tolist():
            puzzle = puzzles[row]
            ended: Ended = "success" if found.success[row] else "stopped" if found.terminated[row] else "truncated"
            names = tuple(agent.jepa.actions.names[action] for action in episodes.taken[row])
            traces[row] = Trace(
                first + row, puzzle.name, puzzle.phase, puzzle.length, names, ended, bool(found.grounded[row]),
                round(float(rewards[row]), 6), round(float(found.distance[row]), 6),
            )  # fmt: skip
        running &= ~(found.terminated | found.truncated)
        step += 1
    return [traces[row] for row in range(len(puzzles))]


def main(argv: Sequence[str] | None = None) -> int:
    """The command `rollout-latent-env`."""
    parser = argparse.ArgumentParser(
        "rollout-latent-env",
        description="Let a trained policy act on tasks and write what it did, one episode a line.",
        epilog="example: uv run rollout-latent-env --episodes 1000 --output data/rollouts/active_quick.jsonl",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="RUN", help="default: the newest run of the active reasoner")
    parser.add_argument("--tasks", type=Path, metavar="MANIFEST", help="default: those that it learnt from")
    parser.add_argument(
        "--episodes", type=int, default=1000, metavar="N", help="default 1000; tasks come again in turn"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: data/rollouts/TASKS.jsonl")
    parser.add_argument("--greedy", action="store_true", help="the likeliest action always, instead of drawing one")
    parser.add_argument("--dynamics", choices=("model", "grounded"), help="default: those of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda", "mps"))
    args = parser.parse_args(argv)
    return run_command(lambda: _roll(args, Console(emoji=False)))


def _roll(args: argparse.Namespace, console: Console) -> int:
    if args.episodes < 1:
        raise InputError(f"--episodes must be 1 or more; got {args.episodes}")
    newest = newest_run(workspace_folder() / "runs", METHOD)
    path = args.checkpoint or (newest.path if newest else None)
    if path is None:
        raise InputError(f"a trained active reasoner is needed; train one with {TRAIN_COMMAND}")
    device = solving_device(args.device)
    file = resolve_checkpoint(path)
    agent, config = opened_agent(load_checkpoint(file, METHOD, device), file, device)
    env = config.env
    if args.dynamics is not None:
        env = dataclasses.replace(env, dynamics=args.dynamics)
    manifest = args.tasks or learnt_manifest(config.tasks, console)
    puzzles = manifest_puzzles(manifest, agent.jepa.actions, env.demonstrations)
    output = args.output or workspace_folder() / "data" / "rollouts" / f"{manifest.resolve().parent.name}.jsonl"
    console.print(f"{file}\nwriting to {show_path(output)}", highlight=False, soft_wrap=True)
    header = Header(
        show_path(file), show_path(manifest), env.dynamics, args.seed, args.greedy,
        tuple(agent.jepa.config.actions),
    )  # fmt: skip
    traces: list[Trace] = []
    with Progress(console, args.episodes, "episodes") as progress:
        while len(traces) < args.episodes:
            first = len(traces)
            some = [puzzles[n % len(puzzles)] for n in range(first, min(first + _AT_ONCE, args.episodes))]
            traces += roll_out(agent, some, env, first, args.seed, args.greedy)
            progress.update(len(traces), f"{sum(trace.grounded for trace in traces)} solved")
    output.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(header)), *(json.dumps(asdict(trace)) for trace in traces)]
    write_text(output, "".join(line + "\n" for line in lines))
    solved = [trace for trace in traces if trace.grounded]
    length = np.mean([len(trace.actions) for trace in solved]) if solved else 0.0
    console.print(
        f"{len(traces):,} episodes, {len(solved) / len(traces):.3f} solved on real grids in {length:.2f} actions\n"
        f"next: uv run discover-options --traces {show_path(output)} --output data/options/discovered.json",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
