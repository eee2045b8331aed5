"""What a reasoner stands on: a program-conditioned JEPA and a cloned policy, taken from earlier runs or trained now."""

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
    """The newest run of a method's quick recipe that came to its end, of those that fit."""
    folders = (workspace_folder() / "runs" / method).glob(f"{RECIPE}-*")
    runs = [run for run in map(RunFolder, folders) if run.summary.exists()]
    runs.sort(key=lambda run: run.summary.stat().st_mtime_ns, reverse=True)
    return next(filter(fits, runs), None)


def ensure_run(
    given: str | None, method: str, command: str, train: Callable[[Sequence[str]], int], what: str, console: Console,
    arguments: Sequence[str] = (), fits: Callable[[RunFolder], bool] = _any,
) -> Path:  # fmt: skip
    """The checkpoint of a config, or the run of an earlier command, or that of one made now.

    Args:
        arguments: of the command, where one is made.
        fits: which earlier runs will do.
    Raises:
        RunFailure: the command did not come to its end; of its status, so that what stopped it is told.
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
    """The newest program-conditioned JEPA that was trained to its end, if there is one."""
    run = latest_finished_run(PROGRAM_METHOD)
    return run.path if run else None


def ensure_program_jepa(given: str | None, console: Console) -> Path:
    """The program-conditioned JEPA to think with."""
    what = "program-conditioned JEPA"
    return ensure_run(given, PROGRAM_METHOD, PROGRAM_COMMAND, train_program_jepa, what, console)
