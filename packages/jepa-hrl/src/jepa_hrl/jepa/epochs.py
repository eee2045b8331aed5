"""Training by epochs, and what is kept of them: losses, the best validation, the files of the training guide."""

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from typing import ClassVar, cast

from lightning_fabric import Fabric

from arc_core.checkpoint import checkpoint_path
from arc_core.files import write_json, write_text
from arc_core.loop import Ended, stop_asked
from arc_core.progress import Progress
from arc_core.runs import TIMING_PREFIX, MetricLog, RunFolder
from arc_core.signals import StopSignals
from jepa_hrl.jepa.config import EarlyStoppingConfig, JepaConfig
from jepa_hrl.programs.config import ProgramJepaConfig


class EpochRecord:
    """Attributes:
    losses, validation_losses: of whole epochs.
    best: validation loss.
    stale: epochs since the validation loss last fell by `min_delta`.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.validation_losses: list[float] = []
        self.best: float | None = None
        self.stale = 0
        self._reference = float("inf")
        self._sum, self._count = 0.0, 0

    def state_dict(self) -> dict[str, object]:
        """All of it, as plain values."""
        return {
            "losses": list(self.losses), "validation_losses": list(self.validation_losses), "best": self.best,
            "stale": self.stale, "reference": self._reference, "sum": self._sum, "count": self._count,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Takes over what `state_dict` gave."""
        self.losses = list(cast("list[float]", state["losses"]))
        self.validation_losses = list(cast("list[float]", state["validation_losses"]))
        self.best, self.stale = cast("float | None", state["best"]), cast(int, state["stale"])
        self._reference = cast(float, state["reference"])
        self._sum, self._count = cast(float, state["sum"]), cast(int, state["count"])

    def add(self, loss: float) -> None:
        """Takes in a step's loss."""
        self._sum, self._count = self._sum + loss, self._count + 1

    def end_epoch(self, validation: float | None, min_delta: float) -> bool:
        """Closes an epoch; whether its validation loss is the best so far."""
        self.losses.append(self._sum / max(self._count, 1))
        self._sum, self._count = 0.0, 0
        if validation is None:
            return False
        self.validation_losses.append(validation)
        self.stale = 0 if validation < self._reference - min_delta else self.stale + 1
        self._reference = min(self._reference, validation) if self.stale == 0 else self._reference
        is_best = self.best is None or validation < self.best
        self.best = validation if is_best else self.best
        return is_best

    def stopped_early(self, stopping: EarlyStoppingConfig) -> bool:
        """Whether it is time to stop."""
        return stopping.enabled and self.stale >= stopping.patience

    def write(
        self, run: RunFolder, config: JepaConfig, epoch: int, step: int, found: Mapping[str, float],
        usage: Mapping[str, float],
    ) -> None:  # fmt: skip
        """Writes metrics.json and the epoch's line of embedding_metrics.jsonl.

        The latter is cut back to earlier epochs first: a resumed run may end an epoch a second time.
        """
        stopped = self.stopped_early(config.training.early_stopping)
        write_json(
            run.path / "metrics.json",
            {
                "completed_epochs": epoch, "batch_size": config.training.batch_size, "losses": self.losses,
                "val_losses": self.validation_losses, "best_val_loss": self.best,
                "early_stopping_epoch": epoch if stopped else None,
            },
        )  # fmt: skip
        line: dict[str, object] = {"epoch": epoch, "step": step}
        for name, value in found.items():
            _, _, place = name.partition("diagnostics/")
            if place:
                part, _, measure = place.partition("/")
                cast("dict[str, float]", line.setdefault(part, {}))[measure] = value
        if usage:
            line["vq"] = dict(usage)
        path = run.path / "embedding_metrics.jsonl"
        earlier = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [text for text in earlier if json.loads(text)["epoch"] < epoch]
        write_text(path, "".join(text + "\n" for text in [*kept, json.dumps(line)]))


def link_epoch(run: RunFolder, step: int, epoch: int) -> None:
    """A second name for an epoch's checkpoint, checkpoint_epoch_0012.pt; names of dropped checkpoints go."""
    folder, whole = run.checkpoints, checkpoint_path(run.checkpoints, step)
    if not whole.exists():
        return
    named = folder / f"checkpoint_epoch_{epoch:04d}.pt"
    named.unlink(missing_ok=True)
    os.link(whole, named)
    alive = {path.stat().st_ino for path in folder.glob("step_*.pt")}
    for path in folder.glob("checkpoint_epoch_*.pt"):
        if path.stat().st_ino not in alive:
            path.unlink()


class EpochTrainer(ABC):
    """The loop of both JEPAs.

    Attributes:
        unit: what a batch is made of.
        step: optimiser steps done.
    """

    unit: ClassVar[str]
    config: JepaConfig | ProgramJepaConfig
    run: RunFolder
    fabric: Fabric
    record: EpochRecord
    step: int
    steps_per_epoch: int
    total_steps: int

    @abstractmethod
    def training_step(self) -> dict[str, float]:
        """One optimiser step; its metrics."""

    @abstractmethod
    def _end_epoch(self, log: MetricLog | None, progress: Progress) -> None:
        """Validates, logs and saves."""

    @abstractmethod
    def _save(self, is_best: bool) -> None:
        """Saves a checkpoint."""

    def stands_still(self) -> bool:
        """Whether training should stop although it was not asked to."""
        return False

    def train(self, progress: Progress) -> Ended:
        """Trains to the end, a signal or a standstill; validates, logs and saves after each epoch."""
        main, every = self.fabric.is_global_zero, self.config.validation.log_every_steps
        if main and self.step and self.step % self.steps_per_epoch == 0:
            link_epoch(self.run, self.step, self.step // self.steps_per_epoch)  # a kill may have come before it
        with MetricLog(self.run, self.step) if main else nullcontext() as log, StopSignals() as signals:
            clock, clocked = time.perf_counter(), self.step
            while self.step < self.total_steps:
                metrics = self.training_step()
                self.record.add(metrics["loss/total"])
                epoch_done, shown = self.step % self.steps_per_epoch == 0, ""
                if self.step % every == 0 or epoch_done:
                    rate = (self.step - clocked) * self.config.training.batch_size / (time.perf_counter() - clock)
                    clock, clocked = time.perf_counter(), self.step
                    if log is not None:
                        log.log(self.step, metrics | {f"{TIMING_PREFIX}{self.unit}_per_second": rate})
                    right = metrics["train/right"]
                    shown = f"loss {metrics['loss/total']:.3f}  right {right:.3f}  {rate:.0f} {self.unit}/s"
                progress.update(self.step, shown)
                if epoch_done:
                    self._end_epoch(log, progress)
                    clock, clocked = time.perf_counter(), self.step
                if stop_asked(self.fabric, signals):
                    if not epoch_done:
                        self._save(is_best=False)
                    return Ended(self.step, signals.exit_status, "stopped by a signal; the step was finished and saved")
                if epoch_done and self.stands_still():
                    progress.say(f"no better validation in {self.record.stale} epochs; stopping early")
                    break
        return Ended(self.step, 0)
