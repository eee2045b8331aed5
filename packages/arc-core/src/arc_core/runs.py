"""The run folder `runs/<method>/<name>/`: config.yaml, metrics.jsonl, tensorboard/, checkpoints/, summary.json."""

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

# Metrics of the clock, all under this prefix; every other one is a function of config, seed and step.
TIMING_PREFIX = "time/"


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where `arc_core.checkpoint` keeps its files."""
        return self.path / "checkpoints"

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a logged step."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """Result of the whole run, written at its end."""
        return self.path / "summary.json"


def new_run(root: Path, method: str, recipe: str, folder: Path | None, restart: bool = False) -> RunFolder:
    """An empty run folder: `folder` if given, else `root/<method>/<recipe>-<date>-<time>`.

    Args:
        restart: take a `folder` whose run was stopped before its first checkpoint.
    Raises:
        InputError: `folder` holds a run already.
    """
    if folder is None:
        stamp = f"{recipe}-{datetime.now():%Y%m%d-%H%M%S}"
        folder = next(
            path
            for number in range(1, 1000)
            if not (path := root / method / (stamp if number == 1 else f"{stamp}-{number}")).exists()
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
    """The run of a method (and recipe) whose newest checkpoint is the youngest file."""
    folders = (root / method).glob(f"{recipe}-*" if recipe else "*")
    runs = [run for run in map(RunFolder, folders) if list_checkpoints(run.checkpoints)]
    return max(runs, key=lambda run: list_checkpoints(run.checkpoints)[0].stat().st_mtime_ns, default=None)


def git_commit() -> str | None:
    """The working tree's commit, with "+changes" where files differ from it; None outside a repository."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True, cwd=Path(__file__).parent,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


class MetricLog:
    """TensorBoard and metrics.jsonl from one call, cut back to the step that a run resumes from."""

    def __init__(self, run: RunFolder, resumed_step: int) -> None:
        """Opens both.

        Args:
            resumed_step: what the run has done so far; lines of later steps came from a lost stretch and are dropped.
        """
        # Imported here: TensorBoard takes a second to load, and most users of this module only look for runs.
        from torch.utils.tensorboard import SummaryWriter

        if run.metrics.exists():
            _cut(run.metrics, resumed_step)
        self._file = run.metrics.open("a", encoding="utf-8")
        self._board = SummaryWriter(run.path / "tensorboard", purge_step=resumed_step + 1)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the finite metrics of a step; both files are flushed, so a killed run loses none of them."""
        shown = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        try:
            self._file.write(json.dumps({"step": step} | shown) + "\n")
            self._file.flush()
            for name, value in shown.items():
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
    """The whole lines of a metrics.jsonl; a last line cut off by a kill is left out."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def _cut(path: Path, last_step: int) -> None:
    kept = [line for line in read_metrics(path) if line["step"] <= last_step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
