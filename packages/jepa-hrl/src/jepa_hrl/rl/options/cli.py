"""`discover-options` finds options in traces; `train-hierarchical` trains with and without them and compares."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from arc_core.config import load_config, parse_overrides, workspace_folder
from arc_core.errors import InputError, run_command
from arc_core.files import show_path, write_json
from arc_core.loop import open_fabric
from arc_core.runs import git_commit
from arc_core.trainer_arguments import first_process_console
from jepa_hrl.rl.config import METHOD, OLD_KEYS, TRAIN_COMMAND, ReasonerConfig
from jepa_hrl.rl.environment.datasets import load_problem_sets, practice_seed
from jepa_hrl.rl.options.comparison import LONG, compare_options, summarize_decisions
from jepa_hrl.rl.options.discovery import OPTIONS_FORMAT, discover, read_options
from jepa_hrl.rl.options.paired_training import VARIANTS, SharedInputs, fine_tune_by_imitation, train_arm
from jepa_hrl.rl.policy.evaluation import EpisodeOutcomes
from jepa_hrl.rl.policy.rollouts import read_traces
from jepa_hrl.rl.prerequisites import ensure_program_jepa
from jepa_hrl.world_model.checkpoint import load_program_jepa

_COMMAND = "uv run --package jepa-hrl train-hierarchical"


def mean_and_spread(values: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Returns each figure's mean over seeds, and its sample standard deviation: 0 for a single seed."""
    statistics = {}
    for name in values[0]:
        numbers = np.array([value[name] for value in values])
        spread = float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
        statistics[name] = {"mean": float(numbers.mean()), "spread": spread}
    return statistics


def train_hierarchical(argv: Sequence[str] | None = None) -> int:
    """Runs the command `train-hierarchical`; returns its exit status."""
    parser = argparse.ArgumentParser(
        "train-hierarchical",
        description="Train the active reasoner with options and without, from the same policy on the same seeds and "
        "tasks, and say whether options are worth having. Any key of the recipe is a switch too: "
        "--trainer.iterations 20. A stopped comparison goes on where it was with the same --run-dir.",
        epilog="example: uv run train-hierarchical --options data/options/discovered.json --seeds 0 1 2",
    )
    default = workspace_folder() / "configs" / METHOD / "hierarchical.yaml"
    parser.add_argument("--options", type=Path, required=True, metavar="FILE", help="that discover-options wrote")
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help=f"default: {show_path(default)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="default: 0")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="default: runs/hierarchical/<date>-<time>")
    args, rest = parser.parse_known_args(argv)
    return run_command(lambda: _train(args, rest, first_process_console()))


def _train(args: argparse.Namespace, rest: Sequence[str], console: Console) -> int:
    commands = {METHOD: TRAIN_COMMAND}
    config, notes = load_config(ReasonerConfig, METHOD, commands, args.config, parse_overrides(rest), OLD_KEYS)
    for note in notes:
        console.print(note, markup=False)
    if len(set(args.seeds)) < len(args.seeds) or min(args.seeds) < 0:
        raise InputError(f"--seeds must be different whole numbers from 0 on; got {args.seeds}")
    fabric = open_fabric(config.device.name, "float32")
    jepa = load_program_jepa(ensure_program_jepa(config.program_checkpoint, console), fabric.device)
    options = read_options(args.options, jepa.actions)
    if not options:
        raise InputError(f"{show_path(args.options)} has no options; give discover-options more traces")
    sets = load_problem_sets(config.tasks, config.env, jepa.actions, practice_seed(config), console)
    shared = SharedInputs(config, jepa, sets, options)
    root = args.run_dir or workspace_folder() / "runs" / "hierarchical" / f"{datetime.now():%Y%m%d-%H%M%S}"
    console.print(f"{len(options)} options; writing to {show_path(root)}", highlight=False, soft_wrap=True)
    status, outcomes = _train_all(shared, args.seeds, root, console)
    if status:
        console.print(
            f"continue with: {_COMMAND} --options {show_path(args.options)} --run-dir {show_path(root)} and "
            "the same switches",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        return status
    _conclude(args, shared, outcomes, root, console)
    return 0


def _train_all(
    shared: SharedInputs, seeds: Sequence[int], root: Path, console: Console
) -> tuple[int, dict[str, list[EpisodeOutcomes]]]:
    """Returns the exit status, and each variant's outcomes on the held-out tasks, one for each seed."""
    initial_runs: dict[str, Path | None] = dict.fromkeys(VARIANTS)
    if shared.config.cloning.epochs:
        initial_runs = {name: root / f"{name}-shown" for name in VARIANTS}
    for name, folder in initial_runs.items():
        status = fine_tune_by_imitation(shared, name, folder, console) if folder is not None else 0
        if status:
            return status, {}
    outcomes: dict[str, list[EpisodeOutcomes]] = {name: [] for name in VARIANTS}
    for seed in seeds:
        for name in VARIANTS:
            status, result = train_arm(shared, name, seed, initial_runs[name], root / f"{name}-seed{seed}", console)
            if result is None:
                return status, {}
            outcomes[name].append(result)
    return 0, outcomes


def _conclude(
    args: argparse.Namespace, shared: SharedInputs, outcomes: Mapping[str, list[EpisodeOutcomes]], root: Path,
    console: Console,
) -> None:  # fmt: skip
    """Writes hierarchical.json and prints its figures and verdict."""
    each = {name: [summarize_decisions(result) for result in results] for name, results in outcomes.items()}
    seeds = {
        name: {part: mean_and_spread([one[part] for one in summaries]) for part in ("all", "long")}
        for name, summaries in each.items()
    }
    comparison = compare_options(outcomes["primitives"], outcomes["options"])
    names = shared.jepa.actions.names
    write_json(
        root / "hierarchical.json",
        {
            "options": [[names[action] for action in option] for option in shared.options], "seeds": args.seeds,
            "training_data": list(shared.sets.specs), "held_out": len(shared.sets.held_out), "commit": git_commit(),
            "variants": seeds, "worth": comparison.to_json(), "verdict": comparison.sentence,
        },
    )  # fmt: skip
    table = Table("", "success", "decisions", f"success, {LONG}+ actions", f"decisions, {LONG}+ actions")
    for name in VARIANTS:
        cells = [seeds[name][part][key] for part in ("all", "long") for key in ("success", "decisions")]
        table.add_row(name, *(f"{cell['mean']:.3f} ± {cell['spread']:.3f}" for cell in cells))
    console.print(table)
    better = "options" if comparison.is_beneficial else "primitives"
    console.print(
        f"{comparison.sentence}\nall of it in {show_path(root / 'hierarchical.json')}\n"
        f"next: uv run eval compare --methods active-reasoner={show_path(root / f'{better}-seed{args.seeds[0]}')} "
        "--data arc1:train --limit 40",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def discover_options(argv: Sequence[str] | None = None) -> int:
    """Runs the command `discover-options`; returns its exit status."""
    parser = argparse.ArgumentParser(
        "discover-options",
        description="Find sequences of actions that recur in successful traces and are worth being one choice.",
        epilog="example: uv run discover-options --traces data/rollouts/active_quick.jsonl --min-support 3 "
        "--output data/options/discovered.json",
    )
    parser.add_argument("--traces", type=Path, required=True, metavar="FILE", help="that rollout-latent-env wrote")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--min-support", type=int, default=3, metavar="N", help="traces that must have it (default 3)")
    parser.add_argument("--max-length", type=int, default=3, metavar="N", help="actions of an option (default 3)")
    parser.add_argument("--most", type=int, default=16, metavar="N", help="options (default 16)")
    args = parser.parse_args(argv)
    return run_command(lambda: _discover(args, Console(emoji=False)))


def _discover(args: argparse.Namespace, console: Console) -> int:
    for name, minimum in (("min_support", 1), ("max_length", 2), ("most", 1)):
        if getattr(args, name) < minimum:
            raise InputError(f"--{name.replace('_', '-')} must be {minimum} or more; got {getattr(args, name)}")
    header, traces = read_traces(args.traces)
    actions = header.action_set()
    unknown = sorted({name for trace in traces for name in trace.actions} - actions.indices.keys())
    if unknown:
        raise InputError(f"{show_path(args.traces)}: {unknown[0]!a} must be an action of its first line's steps")
    options = discover(traces, actions, args.min_support, args.most, args.max_length)
    solved = sum(trace.grounded for trace in traces)
    value: Mapping[str, object] = {
        "format": OPTIONS_FORMAT, "traces": str(args.traces), "total_traces": len(traces), "successful_traces": solved,
        "min_support": args.min_support, "max_length": args.max_length,
        "options": [asdict(option) for option in options],
    }  # fmt: skip
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, value)
    table = Table("option", "support", "success", "bits saved")
    for option in options:
        table.add_row(option.name, str(option.support), f"{option.success_rate:.2f}", f"{option.gain_bits:.1f}")
    console.print(table)
    console.print(
        f"{len(options)} options of {solved} successful traces in {show_path(args.output)}\n"
        f"next: uv run train-hierarchical --options {show_path(args.output)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(train_hierarchical())
