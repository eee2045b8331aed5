"""What every trainer's command does around its training: where a run begins (new, resumed, or from another run's
weights), and what ends it."""

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
from arc_core.loop import TrainingResult, close_fabric, open_fabric
from arc_core.progress import Progress
from arc_core.runs import RunFolder, git_commit, new_run, newest_run
from arc_core.settings import Device, Precision
from arc_core.solver import training_commands
from arc_core.trainer_arguments import TrainerArguments, first_process_console, parse_trainer_arguments

# Sections whose keys do not change what a resumed run computes.
_FREE_TO_CHANGE = ("device.", "validation.keep_last", "validation.save_every_steps")


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
    found = latest_valid_checkpoint(run.checkpoints, method) if run else None
    if run is None or found is None:
        if arguments.resume != "auto":
            raise InputError(f"{arguments.resume} has no checkpoint to continue from")
        return Start(new or RunFolder(root), None, ["nothing to resume; starting a new run"])
    checkpoint, faults = found
    return Start(run, checkpoint, [*faults, f"continuing {show_path(run.path)} from step {checkpoint.step}"])


def check_resumable(checkpoint: Checkpoint, config: Mapping[str, object], fingerprint: str) -> None:
    """Raises InputError when a run would not continue as it began."""
    changed = [key for key in diff_keys(checkpoint.config, config) if not key.startswith(_FREE_TO_CHANGE)]
    if changed:
        raise InputError(
            f"a resumed run keeps its config; {', '.join(changed)} differ. "
            f"Leave them, or begin a new run with --init-from"
        )
    if checkpoint.data_fingerprint != fingerprint:
        raise InputError(
            f"the training data must be what the run began with ({checkpoint.data_fingerprint}); got {fingerprint}"
        )


class Trainable(Protocol):
    """What every method's trainer is."""

    step: int

    @property
    def total_steps(self) -> int:
        """Of the whole run."""

    def load(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of the same config and data."""

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Takes over another run's weights."""

    def train(self, progress: Progress) -> TrainingResult:
        """Trains to the end or a stop."""


class _Device(Protocol):
    @property
    def name(self) -> Device: ...


class TrainerConfig(Protocol):
    """What every method's config says."""

    @property
    def device(self) -> _Device:
        """Where to compute."""

    @property
    def precision(self) -> Precision:
        """Of autocast on a GPU."""


Settings = TypeVar("Settings", bound=TrainerConfig)


@dataclass(frozen=True)
class TrainedMethod(Generic[Settings]):
    """What a trainer's command is about.

    Attributes:
        name: of the method and of its folders in configs/ and runs/.
        config: its dataclass.
        script: the command's name.
        command: how it is called.
        description: of what it does.
        old_keys: of its config.
        switches: that it alone has, without a value, and their help.
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
        console: that the first process speaks on.
        arguments: of the command line.
        config: the recipe's, or that of the resumed run.
        start: where the run begins.
        initial: the checkpoint whose weights a new run takes over, if any.
    """

    def __init__(self, method: TrainedMethod[Settings], arguments: TrainerArguments, recipe: Settings) -> None:
        """Finds where to begin and says so; a resumed run keeps its config where the command line names none.

        Raises:
            InputError: what is to be resumed or begun with cannot be used.
        """
        self.method, self.arguments, self.config, self.console = method, arguments, recipe, first_process_console()
        self.start = find_start(arguments, method.name)
        for line in self.start.lines:
            self.console.print(line, markup=False, soft_wrap=True)
        if self.start.checkpoint is not None and not arguments.given:
            self.config, _ = build_config(method.config, self.start.checkpoint.config, str(self.start.run.config))
        self.initial = load_checkpoint(arguments.init_from, method.name) if arguments.init_from else None

    @cached_property
    def fabric(self) -> Fabric:
        """The processes of this run, connected when first asked for."""
        return open_fabric(self.config.device.name, self.config.precision)

    def begin(self, fingerprint: str) -> RunFolder:
        """The run's folder, the same in every process; the first one makes that of a new run and writes its config.

        Args:
            fingerprint: of the training data.
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
        """Gives the trainer the weights that its run continues from or begins with, if any."""
        if self.start.checkpoint is not None:
            trainer.load(self.start.checkpoint)
        elif self.initial is not None:
            trainer.init_from(self.initial)

    def train(
        self,
        trainer: Trainable,
        run: RunFolder,
        out_of_memory: RunFailure,
        conclude: Callable[[TrainingResult, float], None],
    ) -> int:
        """Trains; says how to go on after a stop, else concludes in the first process. Gives the exit status.

        Args:
            conclude: given how training ended and its seconds.
        Raises:
            RunFailure: see `train_to_end`.
        """
        started = time.perf_counter()
        progress = Progress(self.console, trainer.total_steps, "training", trainer.step)
        ended = train_to_end(trainer.train, progress, self.fabric, run, out_of_memory)
        if ended.status:
            self.console.print(ended.message, soft_wrap=True)
            again = f"continue with: {self.method.command} --resume {show_path(run.path)}"
            self.console.print(again, soft_wrap=True)
        elif self.fabric.is_global_zero:
            conclude(ended, time.perf_counter() - started)
        close_fabric(self.fabric)
        return ended.status


def open_session(method: TrainedMethod[Settings], argv: Sequence[str] | None) -> Session[Settings] | None:
    """The session that a command line means; None where showing its config was all.

    Raises:
        InputError: it, its recipe or what it is to begin with cannot be used.
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
    run: RunFolder, best: Checkpoint, ended: TrainingResult, seconds: float, seed: int, results: Mapping[str, object],
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
    train: Callable[[Progress], TrainingResult],
    progress: Progress,
    fabric: Fabric,
    run: RunFolder,
    out_of_memory: RunFailure,
) -> TrainingResult:
    """Runs a training loop and turns what may break it into one line.

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
