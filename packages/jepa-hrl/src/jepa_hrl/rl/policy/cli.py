"""`rollout-latent-env`: lets a trained policy act on tasks and writes its episodes."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console

from arc_core.checkpoint import load_checkpoint, resolve_checkpoint
from arc_core.config import workspace_folder
from arc_core.device import solving_device
from arc_core.errors import InputError, run_command
from arc_core.files import show_path, write_text
from arc_core.progress import Progress
from arc_core.runs import newest_run
from jepa_hrl.rl.config import METHOD, TRAIN_COMMAND
from jepa_hrl.rl.environment.datasets import training_manifest
from jepa_hrl.rl.environment.problems import load_problems
from jepa_hrl.rl.policy.agent import load_agent
from jepa_hrl.rl.policy.rollouts import EPISODES_AT_ONCE, Header, Trace, roll_out


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `rollout-latent-env`; returns its exit status."""
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
    return run_command(lambda: _roll_out(args, Console(emoji=False)))


def _roll_out(args: argparse.Namespace, console: Console) -> int:
    if args.episodes < 1:
        raise InputError(f"--episodes must be 1 or more; got {args.episodes}")
    newest = newest_run(workspace_folder() / "runs", METHOD)
    path = args.checkpoint or (newest.path if newest else None)
    if path is None:
        raise InputError(f"a trained active reasoner is needed; train one with {TRAIN_COMMAND}")
    device = solving_device(args.device)
    file = resolve_checkpoint(path)
    agent, config = load_agent(load_checkpoint(file, METHOD), file, device)
    env = config.env
    if args.dynamics is not None:
        env = dataclasses.replace(env, dynamics=args.dynamics)
    manifest = args.tasks or training_manifest(config.tasks, console)
    problems = load_problems(manifest, agent.jepa.actions, env.demonstrations)
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
            batch = [problems[n % len(problems)] for n in range(first, min(first + EPISODES_AT_ONCE, args.episodes))]
            traces += roll_out(agent, batch, env, first, args.seed, args.greedy)
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
