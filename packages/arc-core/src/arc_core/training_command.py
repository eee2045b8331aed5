"""The command line that every trainer has, where a run begins (new, resumed, or from another run's weights), and what
ends it."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from lightning_fabric import Fabric
from rich.console import Console

from arc_core.checkpoint import Checkpoint, load_checkpoint, newest_whole
from arc_core.config import (
    Config,
    OldKeys,
    build_config,
    changed_keys,
    config_to_yaml,
    load_config,
    parse_overrides,
    workspace_folder,
)
from arc_core.errors import InputError, RunFailure
from arc_core.files import locked, show_path, write_json, write_text
from arc_core.loop import Ended, close_fabric
from arc_core.progress import Progress
from arc_core.runs import RunFolder, git_commit, new_run, newest_run

# Sections whose keys do not change what a resumed run computes.
_FREE_TO_CHANGE = ("device.", "validation.keep_last", "validation.save_every_steps")


@dataclass(frozen=True)
class TrainerArguments:
    """A parsed command line.

    Attributes:
        config: the recipe's file.
        given: whether the user named a recipe or any key; otherwise a resumed run keeps its own.
        overrides: dotted keys to values.
        resume: "auto", a path, or None.
        run_dir: where to write, None for a new folder below runs/.
        init_from: a checkpoint or run whose weights to start from.
        print_config: show the config and stop.
        switches: those of the trainer's own that were given.
    """

    config: Path
    given: bool
    overrides: Mapping[str, object]
    resume: str | None
    run_dir: Path | None
    init_from: Path | None
    print_config: bool
    switches: frozenset[str]

    @property
    def recipe(self) -> str:
        """The recipe's name, from its file."""
        return self.config.stem


def parse_trainer_arguments(
    command: str, method: str, description: str, switches: Mapping[str, str], argv: Sequence[str] | None = None
) -> TrainerArguments:
    """The command line of a trainer; any `--section.key VALUE` is an override.

    Args:
        switches: flags without a value that this trainer alone has, such as "--validate-config", and their help.
    Raises:
        InputError: an argument is not understood, or two exclude each other.
    """
    recipes = workspace_folder() / "configs" / method
    known = ", ".join(sorted(path.stem for path in recipes.glob("*.yaml")))
    parser = argparse.ArgumentParser(
        command,
        description=description,
        epilog=f"Recipes in configs/{method}: {known}. Any key of a recipe is a flag too, --section.key VALUE "
        f"(docs/configs.md). Ctrl-C finishes the step, saves and stops; --resume auto continues exactly. "
        f"Example: uv run {command} --config configs/{method}/quick.yaml --device cpu",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help=f"recipe; default configs/{method}/quick.yaml")
    parser.add_argument("--resume", metavar="auto|PATH", help="continue the newest run of the recipe, or this one")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="same as --device.name")
    parser.add_argument("--run-dir", metavar="DIR", help=f"run folder; default runs/{method}/<recipe>-<date>-<time>")
    parser.add_argument("--init-from", metavar="PATH", help="start a new run from this checkpoint's weights")
    parser.add_argument("--print-config", action="store_true", help="show the resolved config and stop")
    parser.set_defaults(switches=[])
    for switch, meaning in switches.items():
        parser.add_argument(switch, action="append_const", const=switch, dest="switches", help=meaning)
    args, rest = parser.parse_known_args(argv)
    overrides = parse_overrides(rest)
    if args.device:
        overrides["device.name"] = args.device
    if args.resume and args.init_from:
        raise InputError("--resume continues a run and --init-from begins one; give one of them")
    path = Path(args.config) if args.config else recipes / "quick.yaml"
    if not path.exists() and (recipes.parent.parent / path).exists():
        path = recipes.parent.parent / path
    return TrainerArguments(
        path,
        bool(args.config or rest),
        overrides,
        args.resume,
        Path(args.run_dir) if args.run_dir else None,
        Path(args.init_from) if args.init_from else None,
        args.print_config,
        frozenset(args.switches),
    )


def first_process_console() -> Console:
    """Where a trainer speaks: under torchrun every process runs the command, and only the first one is heard."""
    return Console(quiet=os.environ.get("RANK", "0") != "0", emoji=False)


def read_recipe(
    kind: type[Config], arguments: TrainerArguments, method: str, commands: Mapping[str, str], old: OldKeys,
    console: Console,
) -> Config | None:  # fmt: skip
    """The config that a command line means, after lines about its old keys; None where showing it was all.

    Raises:
        ConfigError: see `load_config`.
    """
    config, notes = load_config(kind, method, commands, arguments.config, arguments.overrides, old)
    for note in notes:
        console.print(note, markup=False)
    if arguments.print_config:
        sys.stdout.write(config_to_yaml(config, method))
        return None
    return config


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        run: its folder.
        checkpoint: to continue from, None for a new run.
        lines: what to tell the user.
    """

    run: RunFolder
    checkpoint: Checkpoint | None
    lines: list[str]


def find_start(arguments: TrainerArguments, method: str) -> Start:
    """The run to write and the checkpoint to continue from; no file is made.

    Raises:
        InputError: the run or checkpoint asked for cannot be used.
    """
    root = workspace_folder() / "runs"
    new = RunFolder(arguments.run_dir) if arguments.run_dir else None
    if arguments.resume is None:
        return Start(new or RunFolder(root), None, [])
    if arguments.resume != "auto":
        path = Path(arguments.resume)
        if not path.exists():
            raise InputError(f"--resume needs a checkpoint file or a run folder; {path} does not exist")
        if path.is_file():
            if path.parent.name != "checkpoints":
                raise InputError(f"{path} is not in the checkpoints/ of a run; begin a new one with --init-from {path}")
            return Start(RunFolder(path.parent.parent), load_checkpoint(path, method), [])
        new = RunFolder(path)
    run = new or newest_run(root, method, arguments.recipe)
    found = newest_whole(run.checkpoints, method) if run else None
    if run is None or found is None:
        if arguments.resume != "auto":
            raise InputError(f"{arguments.resume} has no checkpoint to continue from")
        return Start(new or RunFolder(root), None, ["nothing to resume; starting a new run"])
    checkpoint, faults = found
    return Start(run, checkpoint, [*faults, f"continuing {show_path(run.path)} from step {checkpoint.step}"])


def announce_start(
    kind: type[Config], config: Config, arguments: TrainerArguments, method: str, console: Console
) -> tuple[Config, Start]:
    """`find_start`, told to the user; a resumed run keeps its config where the command line names none.

    Raises:
        InputError: see `find_start`.
    """
    start = find_start(arguments, method)
    for line in start.lines:
        console.print(line, markup=False, soft_wrap=True)
    if start.checkpoint is not None and not arguments.given:
        config, _ = build_config(kind, start.checkpoint.config, str(start.run.config))
    return config, start


def check_resumable(checkpoint: Checkpoint, config: Mapping[str, object], fingerprint: str) -> None:
    """Raises InputError when a run would not continue as it began."""
    changed = [key for key in changed_keys(checkpoint.config, config) if not key.startswith(_FREE_TO_CHANGE)]
    if changed:
        raise InputError(
            f"a resumed run keeps its config; {', '.join(changed)} differ. "
            f"Leave them, or begin a new run with --init-from"
        )
    if checkpoint.data_fingerprint != fingerprint:
        raise InputError(
            f"the training data must be what the run began with ({checkpoint.data_fingerprint}); got {fingerprint}"
        )


def begin_run(arguments: TrainerArguments, start: Start, method: str, config_text: str, fabric: Fabric) -> RunFolder:
    """The run's folder, the same in every process; the first one makes that of a new run and writes its config."""
    run = start.run
    if start.checkpoint is None and fabric.is_global_zero:
        root, restart = workspace_folder() / "runs", arguments.resume is not None
        run = new_run(root, method, arguments.recipe, arguments.run_dir, restart)
        write_text(run.config, config_text)
    shared: RunFolder = fabric.broadcast(run)
    return shared


class Trainable(Protocol):
    """What every method's trainer is."""

    step: int

    def load(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of the same config and data."""

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Takes over another run's weights."""

    def train(self, progress: Progress) -> Ended:
        """Trains to the end or a stop."""


def take_over(trainer: Trainable, start: Start, initial: Checkpoint | None) -> None:
    """Gives a trainer the weights that its run continues from or begins with, if any."""
    if start.checkpoint is not None:
        trainer.load(start.checkpoint)
    elif initial is not None:
        trainer.init_from(initial)


def run_trainer(
    trainer: Trainable, total: int, run: RunFolder, fabric: Fabric, out_of_memory: RunFailure, command: str,
    console: Console, conclude: Callable[[Ended, float], None],
) -> int:  # fmt: skip
    """Trains; says how to go on after a stop, else concludes in the first process. Gives the exit status.

    Args:
        total: steps of the whole run.
        command: the method's training command.
        conclude: given how training ended and its seconds.
    Raises:
        RunFailure: see `train_to_end`.
    """
    started = time.perf_counter()
    progress = Progress(console, total, "training", trainer.step)
    ended = train_to_end(trainer.train, progress, fabric, run, out_of_memory)
    if ended.status:
        console.print(ended.message, soft_wrap=True)
        console.print(f"continue with: {command} --resume {show_path(run.path)}", soft_wrap=True)
    elif fabric.is_global_zero:
        conclude(ended, time.perf_counter() - started)
    close_fabric(fabric)
    return ended.status


def write_summary(
    run: RunFolder, best: Checkpoint, ended: Ended, seconds: float, seed: int, results: Mapping[str, object],
    more: Mapping[str, object],
) -> None:  # fmt: skip
    """Writes summary.json: what a finished run was, and the results of its best checkpoint.

    Args:
        seconds: of training.
        results: by what they were measured on.
        more: that the method says beside it.
    """
    write_json(
        run.summary,
        {
            "method": best.method, "checkpoint_step": best.step, "steps": ended.step, "commit": git_commit(),
            "training_seconds": round(seconds, 1), "seed": seed, "training_data": list(best.training_data),
            "data_fingerprint": best.data_fingerprint, **more, "results": results,
        },
    )  # fmt: skip


# How the CPU's allocator and oneDNN say that there is no more memory; they have no error of their own for it.
_NO_MEMORY = ("can't allocate memory", "could not create a primitive")


def train_to_end(
    train: Callable[[Progress], Ended], progress: Progress, fabric: Fabric, run: RunFolder, out_of_memory: RunFailure
) -> Ended:
    """Runs a training loop and turns what may break it into one line.

    Raises:
        InputError: another process writes to the run.
        RunFailure: the device ran out of memory, or another process died.
    """
    with locked(run.path) if fabric.is_global_zero else nullcontext(), progress:
        try:
            return train(progress)
        except (torch.OutOfMemoryError, MemoryError):
            raise out_of_memory from None
        except RuntimeError as error:
            if any(words in str(error) for words in _NO_MEMORY):
                raise out_of_memory from None
            if fabric.world_size == 1 or isinstance(error, RunFailure):
                raise
            raise RunFailure(
                f"process {fabric.global_rank} lost the others; the last checkpoint in {show_path(run.checkpoints)} is "
                f"whole, continue with --resume auto ({str(error).splitlines()[0]:.80})"
            ) from None
