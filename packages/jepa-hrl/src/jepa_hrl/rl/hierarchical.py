"""`train-hierarchical`: a policy with options beside one without, on the same seeds and tasks, and what they are worth.

An option is chosen like an action and runs to its end (call and return); what follows it is discounted by as many
steps as it took.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from arc_core.checkpoint import load_checkpoint, newest_whole
from arc_core.config import (
    config_to_dict,
    config_to_yaml,
    load_config,
    parse_overrides,
    workspace_folder,
)
from arc_core.errors import InputError, RunFailure, run_command
from arc_core.files import show_path, write_json, write_text
from arc_core.loop import close_fabric, open_fabric
from arc_core.progress import Progress
from arc_core.runs import RunFolder, git_commit
from arc_core.trainer_arguments import first_process_console
from arc_core.training_command import check_resumable, train_to_end
from jepa_hrl.programs.opened import OpenedProgramJepa, open_program_jepa
from jepa_hrl.rl.agent import Agent
from jepa_hrl.rl.cloning_cli import cloned_policy
from jepa_hrl.rl.config import CLONING_METHOD, METHOD, OLD_KEYS, TRAIN_COMMAND, ReasonerConfig
from jepa_hrl.rl.data import PuzzleSets, load_puzzles, practice_seed
from jepa_hrl.rl.measure import Tried, try_all
from jepa_hrl.rl.options import read_options
from jepa_hrl.rl.pieces import program_jepa
from jepa_hrl.rl.trainer import Trainer

_LONG = 3  # actions of a program from which on options should help
_EQUAL = 0.02  # success within which two policies count as equally good
_COMMAND = "uv run --package jepa-hrl train-hierarchical"
VARIANTS = ("primitives", "options")


@dataclass(frozen=True)
class Pieces:
    """What all trainings share."""

    config: ReasonerConfig
    jepa: OpenedProgramJepa
    sets: PuzzleSets
    options: tuple[tuple[int, ...], ...]


def long_tasks(tried: Tried) -> dict[str, float]:
    """Success, decisions and actions on the puzzles of programs of three actions and more."""
    chosen = tried.wanted >= _LONG
    solved = chosen & tried.grounded
    return {
        "tasks": int(chosen.sum()), "success": float(tried.grounded[chosen].mean()) if chosen.any() else 0.0,
        "decisions": float(tried.decisions[solved].mean()) if solved.any() else 0.0,
        "actions": float(tried.actions[solved].mean()) if solved.any() else 0.0,
    }  # fmt: skip


def worth_having(without: Mapping[str, float], using: Mapping[str, float]) -> bool:
    """Whether options take fewer decisions at equal success."""
    return using["decisions"] < without["decisions"] and using["success"] >= without["success"] - _EQUAL


def verdict(without: Mapping[str, float], using: Mapping[str, float]) -> str:
    """A sentence on whether options are worth having."""
    found = "worth having" if worth_having(without, using) else "not worth having"
    return (
        f"the options are {found}: on tasks of {_LONG} actions and more they take "
        f"{using['decisions']:.2f} decisions against {without['decisions']:.2f}, with success "
        f"{using['success']:.3f} against {without['success']:.3f}"
    )


def train_variant(
    pieces: Pieces, name: str, seed: int, folder: Path, console: Console
) -> tuple[int, dict[str, dict[str, float]]]:
    """Trains one policy, or goes on, or reads what it reached; the exit status, and figures of held-out tasks."""
    config = dataclasses.replace(pieces.config, trainer=dataclasses.replace(pieces.config.trainer, seed=seed))
    run = RunFolder(folder)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    fabric = open_fabric(config.device.name, "float32")
    agent = Agent(pieces.jepa, config.policy, seed, pieces.options if name == "options" else (), config.env.undo)
    trainer = Trainer(config, agent, pieces.sets, run, fabric)
    found = newest_whole(run.checkpoints, METHOD)
    if found is not None:
        check_resumable(found[0], config_to_dict(config), pieces.sets.fingerprint)
        trainer.load(found[0])
    else:
        write_text(run.config, config_to_yaml(config, METHOD))
        if config.cloning.epochs:
            cloned = cloned_policy(config, pieces.jepa, console)
            trainer.init_from(load_checkpoint(cloned, CLONING_METHOD, fabric.device))
    if trainer.step < trainer.total_steps:
        progress = Progress(console, trainer.total_steps, f"{name}, seed {seed}", trainer.step)
        failure = RunFailure("the device ran out of memory; try a smaller trainer.episodes_per_iter")
        ended = train_to_end(trainer.train, progress, fabric, run, failure)
        if ended.status:
            console.print(ended.message, soft_wrap=True)
            return ended.status, {}
    trainer.load(load_checkpoint(run.path, METHOD, fabric.device))
    tried = try_all(agent, pieces.sets.held_out, config.env)
    everything = {"success": float(tried.grounded.mean()), "decisions": float(tried.decisions[tried.grounded].mean())}
    values = {"all": everything, "long": long_tasks(tried)}
    if fabric.is_global_zero:
        write_json(run.summary, {"method": METHOD, "variant": name, "seed": seed, "results": values})
    close_fabric(fabric)
    return 0, values


def mean_and_spread(values: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Of each figure over seeds: mean, and sample standard deviation where there are several."""
    found = {}
    for name in values[0]:
        numbers = np.array([value[name] for value in values])
        spread = float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
        found[name] = {"mean": float(numbers.mean()), "spread": spread}
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command `train-hierarchical`."""
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
    jepa = open_program_jepa(program_jepa(config.program_checkpoint, console), fabric.device)
    options = read_options(args.options, jepa.actions)
    if not options:
        raise InputError(f"{show_path(args.options)} has no options; give discover-options more traces")
    sets = load_puzzles(config.tasks, config.env, jepa.actions, practice_seed(config), console)
    pieces = Pieces(config, jepa, sets, options)
    root = args.run_dir or workspace_folder() / "runs" / "hierarchical" / f"{datetime.now():%Y%m%d-%H%M%S}"
    console.print(f"{len(options)} options; writing to {show_path(root)}", highlight=False, soft_wrap=True)
    results: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in VARIANTS}
    for seed in args.seeds:
        for name in VARIANTS:
            status, values = train_variant(pieces, name, seed, root / f"{name}-seed{seed}", console)
            if status:
                console.print(
                    f"continue with: {_COMMAND} --options {show_path(args.options)} --run-dir {show_path(root)} and "
                    "the same switches",
                    highlight=False, soft_wrap=True,
                )  # fmt: skip
                return status
            results[name].append(values)
    return _conclude(args, pieces, results, root, console)


def _conclude(
    args: argparse.Namespace, pieces: Pieces, results: Mapping[str, list[dict[str, dict[str, float]]]], root: Path,
    console: Console,
) -> int:  # fmt: skip
    """Writes hierarchical.json and says what it says."""
    figures = {
        name: {part: mean_and_spread([value[part] for value in values]) for part in ("all", "long")}
        for name, values in results.items()
    }
    long = {name: {key: value["mean"] for key, value in figures[name]["long"].items()} for name in VARIANTS}
    sentence = verdict(long["primitives"], long["options"])
    better = "options" if worth_having(long["primitives"], long["options"]) else "primitives"
    names = pieces.jepa.actions.names
    write_json(
        root / "hierarchical.json",
        {
            "options": [[names[action] for action in option] for option in pieces.options], "seeds": args.seeds,
            "training_data": list(pieces.sets.specs), "held_out": len(pieces.sets.held_out), "commit": git_commit(),
            "variants": figures, "verdict": sentence,
        },
    )  # fmt: skip
    table = Table("", "success", "decisions", f"success, {_LONG}+ actions", f"decisions, {_LONG}+ actions")
    for name in VARIANTS:
        cells = [figures[name][part][key] for part in ("all", "long") for key in ("success", "decisions")]
        table.add_row(name, *(f"{cell['mean']:.3f} ± {cell['spread']:.3f}" for cell in cells))
    console.print(table)
    console.print(
        f"{sentence}\nall of it in {show_path(root / 'hierarchical.json')}\n"
        f"next: uv run eval compare --methods active-reasoner={show_path(root / f'{better}-seed{args.seeds[0]}')} "
        "--data arc1:train --limit 40",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
