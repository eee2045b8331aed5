"""Run folders `runs/<method>/<name>/` with config.yaml, metrics.jsonl, tensorboard/, checkpoints/, summary.json."""

import json
import math
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

from arc_core.checkpoint import list_checkpoints
from arc_core.errors import InputError, RunFailure
from arc_core.files import write_text

# Prefix of all metrics that depend on the clock; every other one is a function of config, seed and step.
TIMING_PREFIX = "time/"


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run.

    Attributes:
        path: the run's folder.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints, see `arc_core.checkpoint`."""
        return self.path / "checkpoints"

    @property
    def config(self) -> Path:
        """File of the resolved config."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """File of the metrics, one JSON object for each logged step."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """File of the run's results, written at its end."""
        return self.path / "summary.json"


def new_run(root: Path, method: str, recipe: str, folder: Path | None, restart: bool = False) -> RunFolder:
    """Creates an empty run folder: `folder` if given, else `root/<method>/<recipe>-<date>-<time>`.

    Args:
        root: folder that holds the runs of all methods.
        method: name of the method.
        recipe: name of the recipe.
        folder: folder to use; None to derive it from the recipe and the time.
        restart: accept a `folder` whose run was stopped before its first checkpoint.
    Raises:
        InputError: `folder` already holds a run, or cannot be created.
    """
    if folder is None:
        stamp = f"{recipe}-{datetime.now():%Y%m%d-%H%M%S}"
        folder = next(
            path
            for attempt in range(1, 1000)
            if not (path := root / method / (stamp if attempt == 1 else f"{stamp}-{attempt}")).exists()
        )
    run = RunFolder(folder)
    if list_checkpoints(run.checkpoints) or (run.metrics.exists() and not restart):
        raise InputError(f"{folder} holds a run already; continue it with --resume auto, or choose another --run-dir")
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"run folder {folder} cannot be made: {error.strerror}") from None
    return run


def newest_run(root: Path, method: str, recipe: str | None = None) -> RunFolder | None:
    """Returns the run whose newest checkpoint was written last, None if no run has a checkpoint.

    Args:
        root: folder that holds the runs of all methods.
        method: name of the method.
        recipe: only runs of this recipe; None for all.
    """
    folders = (root / method).glob(f"{recipe}-*" if recipe else "*")
    runs = [run for run in map(RunFolder, folders) if list_checkpoints(run.checkpoints)]
    return max(runs, key=lambda run: list_checkpoints(run.checkpoints)[0].stat().st_mtime_ns, default=None)


def git_commit() -> str | None:
    """Returns the working tree's commit, with "+changes" if files differ from it; None outside a repository."""
    try:
        process = subprocess.run(
            ["git", "describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True, cwd=Path(__file__).parent,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()


class MetricLog:
    """A log of metrics to TensorBoard and metrics.jsonl."""

    def __init__(self, run: RunFolder, resumed_step: int) -> None:
        """Opens both logs.

        Args:
            run: the run to log.
            resumed_step: step that the run continues from; metrics of later steps, which are repeated, are dropped.
        """
        # Imported here: TensorBoard takes a second to import, and most users of this module only look for runs.
        from torch.utils.tensorboard import SummaryWriter

        if run.metrics.exists():
            _truncate(run.metrics, resumed_step)
        self._file = run.metrics.open("a", encoding="utf-8")
        self._board = SummaryWriter(run.path / "tensorboard", purge_step=resumed_step + 1)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the finite metrics of a step and flushes both logs, so that a killed run loses none of them."""
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        try:
            self._file.write(json.dumps({"step": step} | finite) + "\n")
            self._file.flush()
            for name, value in finite.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        except OSError as error:
            raise RunFailure(f"metrics could not be written to {self._file.name}: {error.strerror}") from error

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Reads the lines of a metrics.jsonl, without a last line that a kill cut off."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def _truncate(path: Path, last_step: int) -> None:
    """Drops the metrics of later steps than `last_step`."""
    kept = [line for line in read_metrics(path) if line["step"] <= last_step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
