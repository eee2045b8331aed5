"""Everything that a trainer's command does around training: it starts or resumes a run, and reports its end."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from lightning_fabric import Fabric

from arc_core.checkpoint import Checkpoint, latest_valid_checkpoint, load_checkpoint
from arc_core.config import (
    OldKeys,
    build_config,
    config_to_dict,
    config_to_yaml,
    diff_keys,
    load_config,
    workspace_folder,
)
from arc_core.errors import InputError, RunFailure
from arc_core.files import lock_folder, show_path, write_json, write_text
from arc_core.loop import TrainingResult, close_fabric, open_fabric, scaler_note
from arc_core.progress import Progress
from arc_core.runs import RunFolder, git_commit, new_run, newest_run
from arc_core.settings import Device, Precision
from arc_core.solver import training_commands
from arc_core.trainer_arguments import TrainerArguments, first_process_console, parse_trainer_arguments

# Prefixes of keys that do not change what a resumed run computes.
_FREE_TO_CHANGE = ("device.", "validation.keep_last", "validation.save_every_steps")


@dataclass(frozen=True)
class Start:
    """The start of a run.

    Attributes:
        run: folder of the run.
        checkpoint: checkpoint to continue from; None for a new run.
        lines: messages for the user.
    """

    run: RunFolder
    checkpoint: Checkpoint | None
    lines: list[str]


def find_start(arguments: TrainerArguments, method: str) -> Start:
    """Finds the run to write to and the checkpoint to continue from, without writing any file.

    Args:
        arguments: the command line.
        method: name of the method.
    Raises:
        InputError: the run or checkpoint that the user asked for cannot be used.
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
    latest = latest_valid_checkpoint(run.checkpoints, method) if run else None
    if run is None or latest is None:
        if arguments.resume != "auto":
            raise InputError(f"{arguments.resume} has no checkpoint to continue from")
        return Start(new or RunFolder(root), None, ["nothing to resume; starting a new run"])
    checkpoint, faults = latest
    return Start(run, checkpoint, [*faults, f"continuing {show_path(run.path)} from step {checkpoint.step}"])


def check_resumable(checkpoint: Checkpoint, config: Mapping[str, object], fingerprint: str) -> None:
    """Checks that a run would continue as it began.

    Args:
        checkpoint: the checkpoint to continue from.
        config: the config of the resumed run as nested plain values.
        fingerprint: fingerprint of its training data.
    Raises:
        InputError: the config or the training data differ.
    """
    changes = [key for key in diff_keys(checkpoint.config, config) if not key.startswith(_FREE_TO_CHANGE)]
    if changes:
        raise InputError(
            f"a resumed run keeps its config; {', '.join(changes)} differ. "
            f"Leave them, or begin a new run with --init-from"
        )
    if checkpoint.data_fingerprint != fingerprint:
        raise InputError(
            f"the training data must be what the run began with ({checkpoint.data_fingerprint}); got {fingerprint}"
        )


class Trainable(Protocol):
    """The interface of every method's trainer.

    Attributes:
        step: optimiser steps done.
    """

    step: int

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""

    def load(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of the same config and data."""

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Starts from another run's weights."""

    def train(self, progress: Progress) -> TrainingResult:
        """Trains to the last step, or until a signal or an early stop."""


class _Device(Protocol):
    @property
    def name(self) -> Device: ...


class TrainerConfig(Protocol):
    """The parts of a config that every method has."""

    @property
    def device(self) -> _Device:
        """Section that names the device to compute on."""

    @property
    def precision(self) -> Precision:
        """Precision of autocast on a GPU."""


Settings = TypeVar("Settings", bound=TrainerConfig)


@dataclass(frozen=True)
class TrainedMethod(Generic[Settings]):
    """The description of a method from which its training command is made.

    Attributes:
        name: name of the method and of its folders in configs/ and runs/.
        config: dataclass of its config.
        script: name of the command.
        command: full call of the command, for messages.
        description: description of the command for --help.
        old_keys: keys of earlier versions of its config.
        switches: help text by flag without a value that this command alone has.
    """

    name: str
    config: type[Settings]
    script: str
    command: str
    description: str
    old_keys: OldKeys
    switches: Mapping[str, str] = field(default_factory=dict)


class Session(Generic[Settings]):
    """One call of a trainer's command.

    Attributes:
        method: the method that is trained.
        console: console on which only the first process prints.
        arguments: the command line.
        config: config of the recipe, or of the resumed run.
        start: the start of the run.
        initial: checkpoint whose weights a new run starts from, if any.
    """

    def __init__(self, method: TrainedMethod[Settings], arguments: TrainerArguments, recipe: Settings) -> None:
        """Finds the start of the run and announces it; a resumed run keeps its config unless the command line has one.

        Args:
            method: the method to train.
            arguments: the command line.
            recipe: config of the recipe with the command line's overrides.
        Raises:
            InputError: the run to resume or the checkpoint to start from cannot be used.
        """
        self.method, self.arguments, self.config, self.console = method, arguments, recipe, first_process_console()
        self.start = find_start(arguments, method.name)
        for line in self.start.lines:
            self.console.print(line, markup=False, soft_wrap=True)
        if self.start.checkpoint is not None and not arguments.has_config:
            self.config, _ = build_config(method.config, self.start.checkpoint.config, str(self.start.run.config))
        self.initial = load_checkpoint(arguments.init_from, method.name) if arguments.init_from else None

    @cached_property
    def fabric(self) -> Fabric:
        """The Fabric of this run's processes, which connect when it is first used."""
        return open_fabric(self.config.device.name, self.config.precision)

    def begin(self, fingerprint: str) -> RunFolder:
        """Returns the run's folder; for a new run the first process creates it and writes the config.

        Args:
            fingerprint: fingerprint of the training data.
        Raises:
            InputError: the run would not continue as it began.
        """
        run, checkpoint, arguments = self.start.run, self.start.checkpoint, self.arguments
        if checkpoint is not None:
            check_resumable(checkpoint, config_to_dict(self.config), fingerprint)
        elif self.fabric.is_global_zero:
            root, restart = workspace_folder() / "runs", arguments.resume is not None
            run = new_run(root, self.method.name, arguments.recipe, arguments.run_dir, restart)
            write_text(run.config, config_to_yaml(self.config, self.method.name))
        shared: RunFolder = self.fabric.broadcast(run)
        return shared

    def take_over(self, trainer: Trainable) -> None:
        """Loads the checkpoint that the run continues or starts from into the trainer, if there is one."""
        if self.start.checkpoint is not None:
            trainer.load(self.start.checkpoint)
            note = scaler_note(self.fabric, self.start.checkpoint.extras.get("precision"))
            if note:
                self.console.print(note, markup=False, soft_wrap=True)
        elif self.initial is not None:
            trainer.init_from(self.initial)

    def train(
        self,
        trainer: Trainable,
        run: RunFolder,
        out_of_memory: RunFailure,
        conclude: Callable[[TrainingResult, float], None],
    ) -> int:
        """Trains and returns the exit status; after a stop it prints the command that continues the run.

        Args:
            trainer: the trainer, with its weights loaded.
            run: folder of the run.
            out_of_memory: error to raise when the device runs out of memory.
            conclude: called in the first process when training is finished, with its result and its seconds.
        Raises:
            RunFailure: see `train_to_end`.
        """
        start_time = time.perf_counter()
        progress = Progress(self.console, trainer.total_steps, "training", trainer.step)
        result = train_to_end(trainer.train, progress, self.fabric, run, out_of_memory)
        if result.status:
            self.console.print(result.message, soft_wrap=True)
            hint = f"continue with: {self.method.command} --resume {show_path(run.path)}"
            self.console.print(hint, soft_wrap=True)
        elif self.fabric.is_global_zero:
            conclude(result, time.perf_counter() - start_time)
        close_fabric(self.fabric)
        return result.status


def open_session(method: TrainedMethod[Settings], argv: Sequence[str] | None) -> Session[Settings] | None:
    """Opens the session of a command line; returns None if it only asks to show the config.

    Args:
        method: the method to train.
        argv: the arguments; None for those of the process.
    Raises:
        InputError: the command line, its recipe or the checkpoint to start from cannot be used.
    """
    arguments = parse_trainer_arguments(method.script, method.name, method.description, method.switches, argv)
    commands = training_commands() | {method.name: method.command}
    recipe, notes = load_config(
        method.config, method.name, commands, arguments.config, arguments.overrides, method.old_keys
    )
    for note in notes:
        first_process_console().print(note, markup=False)
    if arguments.print_config:
        sys.stdout.write(config_to_yaml(recipe, method.name))
        return None
    return Session(method, arguments, recipe)


def write_summary(
    run: RunFolder, best: Checkpoint, result: TrainingResult, seconds: float, seed: int, metrics: Mapping[str, object],
    extras: Mapping[str, object],
) -> None:  # fmt: skip
    """Writes summary.json: facts about a finished run, and the results of its best checkpoint.

    Args:
        run: folder of the run.
        best: its best checkpoint.
        result: the end of training.
        seconds: duration of training.
        seed: seed of the run.
        metrics: results of the best checkpoint by data set.
        extras: further entries of the method.
    """
    write_json(
        run.summary,
        {
            "method": best.method, "checkpoint_step": best.step, "steps": result.step, "commit": git_commit(),
            "training_seconds": round(seconds, 1), "seed": seed, "training_data": list(best.training_data),
            "data_fingerprint": best.data_fingerprint, **extras, "results": metrics,
        },
    )  # fmt: skip


# Messages of the CPU's allocator and of oneDNN when memory runs out; they have no exception class for it.
_NO_MEMORY = ("can't allocate memory", "could not create a primitive")


def train_to_end(
    train: Callable[[Progress], TrainingResult],
    progress: Progress,
    fabric: Fabric,
    run: RunFolder,
    out_of_memory: RunFailure,
) -> TrainingResult:
    """Runs a training loop with the run's folder locked, and reports common failures in one line.

    Args:
        train: the training loop.
        progress: display of its progress.
        fabric: processes of the run.
        run: folder of the run.
        out_of_memory: error to raise when the device runs out of memory.
    Raises:
        InputError: another process writes to the run.
        RunFailure: the device ran out of memory, or another process died.
    """
    with lock_folder(run.path) if fabric.is_global_zero else nullcontext(), progress:
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
