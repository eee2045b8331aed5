"""Runs that training the reasoner requires: an earlier one is used, or one is trained now."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from arc_core.config import workspace_folder
from arc_core.errors import EXIT_FAILED, RunFailure
from arc_core.files import show_path
from arc_core.runs import RunFolder
from jepa_hrl.world_model.cli import train_program_conditioned_jepa as train_program_jepa
from jepa_hrl.world_model.config import METHOD as PROGRAM_METHOD
from jepa_hrl.world_model.config import TRAIN_COMMAND as PROGRAM_COMMAND

RECIPE = "quick"


def _any(run: RunFolder) -> bool:
    return True


def latest_finished_run(method: str, fits: Callable[[RunFolder], bool] = _any) -> RunFolder | None:
    """Returns the newest finished run of a method's quick recipe, None if there is none.

    Args:
        method: folder in runs/.
        fits: whether a run may be used.
    """
    folders = (workspace_folder() / "runs" / method).glob(f"{RECIPE}-*")
    runs = [run for run in map(RunFolder, folders) if run.summary.exists()]
    runs.sort(key=lambda run: run.summary.stat().st_mtime_ns, reverse=True)
    return next(filter(fits, runs), None)


def ensure_run(
    given: str | None, method: str, command: str, train: Callable[[Sequence[str]], int], what: str, console: Console,
    arguments: Sequence[str] = (), fits: Callable[[RunFolder], bool] = _any,
) -> Path:  # fmt: skip
    """Returns the configured checkpoint, else the newest finished run that fits, else a run trained now.

    Args:
        given: run or checkpoint from the config; it is returned as it is.
        method: folder in runs/ to look in.
        command: how a user would train a run, for messages.
        train: runs that command and returns its exit status.
        what: what the run provides, for messages.
        console: told which run is used, or that one is trained.
        arguments: arguments of the command, if a run is trained.
        fits: whether an earlier run may be used.
    Raises:
        RunFailure: the training was stopped or failed. It has the status of the command, so that an interrupted
            prerequisite ends the calling command as an interruption too.
    """
    if given is not None:
        return Path(given)
    run = latest_finished_run(method, fits)
    if run is None:
        command = " ".join((command, *arguments))
        console.print(f"there is no {what} yet; training one with {command}", highlight=False, soft_wrap=True)
        status = train(arguments)
        run = latest_finished_run(method, fits)
        if status or run is None:
            reason = f"{what} was not trained to its end; go on with {command} --resume auto"
            raise RunFailure(reason, status or EXIT_FAILED)
    console.print(f"{what}: {show_path(run.path)}", highlight=False, soft_wrap=True)
    return run.path


def latest_program_jepa() -> Path | None:
    """Returns the newest finished run of the program-conditioned JEPA, None if there is none."""
    run = latest_finished_run(PROGRAM_METHOD)
    return run.path if run else None


def ensure_program_jepa(given: str | None, console: Console) -> Path:
    """Returns the program-conditioned JEPA to use as world model, and trains one if there is none; see `ensure_run`."""
    what = "program-conditioned JEPA"
    return ensure_run(given, PROGRAM_METHOD, PROGRAM_COMMAND, train_program_jepa, what, console)
