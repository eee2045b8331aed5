"""The training loop of epoch-based trainers, the history of their losses, and checkpoints named by epoch."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from typing import ClassVar, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.checkpoint import checkpoint_path
from arc_core.loop import LossCheck, TrainingResult, should_stop, warmup_cosine
from arc_core.progress import Progress
from arc_core.runs import TIMING_PREFIX, MetricLog, RunFolder
from arc_core.signals import StopSignals

_MIN_RATIO = 0.1  # learning rate at the end of the cosine, as a share of the highest


class EpochRecord:
    """The losses of finished epochs, and the number of epochs since the validation loss improved.

    Attributes:
        losses: mean training loss of each finished epoch.
        validation_losses: validation loss of each epoch that was validated.
        best: lowest validation loss so far; None before the first.
        stale: number of validated epochs since the validation loss last fell by more than `min_delta`.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.validation_losses: list[float] = []
        self.best: float | None = None
        self.stale = 0
        self._reference = float("inf")
        self._sum, self._count = 0.0, 0

    def state_dict(self) -> dict[str, object]:
        """Returns the record as plain values, for a checkpoint."""
        return {
            "losses": list(self.losses), "validation_losses": list(self.validation_losses), "best": self.best,
            "stale": self.stale, "reference": self._reference, "sum": self._sum, "count": self._count,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restores what `state_dict` returned."""
        self.losses = list(cast("list[float]", state["losses"]))
        self.validation_losses = list(cast("list[float]", state["validation_losses"]))
        self.best, self.stale = cast("float | None", state["best"]), cast(int, state["stale"])
        self._reference = cast(float, state["reference"])
        self._sum, self._count = cast(float, state["sum"]), cast(int, state["count"])

    def add(self, loss: float) -> None:
        """Adds the loss of one optimiser step to the running epoch."""
        self._sum, self._count = self._sum + loss, self._count + 1

    def end_epoch(self, validation: float | None, min_delta: float) -> bool:
        """Closes the running epoch.

        Args:
            validation: validation loss of the epoch; None if it was not validated.
            min_delta: smallest decrease of the validation loss that counts as an improvement.
        Returns:
            Whether the validation loss is the lowest so far.
        """
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


def link_epoch(run: RunFolder, step: int, epoch: int) -> None:
    """Links an epoch's checkpoint as checkpoint_epoch_0012.pt, and removes links to deleted checkpoints.

    Args:
        run: run folder that holds the checkpoint.
        step: optimiser step of the checkpoint.
        epoch: index of the epoch that ended with it, from 1.
    """
    folder, checkpoint = run.checkpoints, checkpoint_path(run.checkpoints, step)
    if not checkpoint.exists():
        return
    link = folder / f"checkpoint_epoch_{epoch:04d}.pt"
    link.unlink(missing_ok=True)
    os.link(checkpoint, link)
    kept = {path.stat().st_ino for path in folder.glob("step_*.pt")}
    for path in folder.glob("checkpoint_epoch_*.pt"):
        if path.stat().st_ino not in kept:
            path.unlink()


class EpochTrainer(ABC):
    """The training loop over epochs; subclasses define an optimiser step and the end of an epoch.

    Attributes:
        unit: plural name of the elements of a batch, for the throughput that is shown and logged.
        loss_metric, accuracy_metric: names of the metrics of `training_step` that the progress line shows.
        run: folder that the run writes to.
        fabric: processes and devices of the run.
        step: optimiser steps done.
        steps_per_epoch, total_steps: optimiser steps in an epoch and in the whole run.
        batch_size: elements in a batch, over all processes.
        log_every: optimiser steps between two logged steps; an epoch's last step is always logged.
        loss_check: to which `training_step` gives its losses.
    """

    unit: ClassVar[str]
    loss_metric: ClassVar[str]
    accuracy_metric: ClassVar[str]
    run: RunFolder
    fabric: Fabric
    step: int
    steps_per_epoch: int
    total_steps: int
    batch_size: int
    log_every: int
    loss_check: LossCheck

    @abstractmethod
    def training_step(self) -> Mapping[str, Tensor | float]:
        """Takes one optimiser step and returns its metrics; those on a device are read only where they are logged."""

    @abstractmethod
    def end_epoch(self, log: MetricLog | None, progress: Progress) -> None:
        """Validates, logs and saves after the last step of an epoch."""

    @abstractmethod
    def save(self, is_best: bool) -> None:
        """Saves a checkpoint of the current step."""

    def start(self, log: MetricLog | None, progress: Progress) -> None:
        """Runs before the loop, also after every resumption; by default repeats a `link_epoch` that was lost.

        The run may have been killed between writing an epoch's checkpoint and linking it.
        """
        if self.fabric.is_global_zero and self.step and self.step % self.steps_per_epoch == 0:
            link_epoch(self.run, self.step, self.step // self.steps_per_epoch)

    def record_step(self, metrics: Mapping[str, float]) -> None:  # noqa: B027  # a trainer may have nothing to note
        """Notes the metrics of a step; called for every step in order, at the latest before anything is saved."""

    def early_stop_reason(self) -> str:
        """Returns the reason to stop training after this epoch, empty to continue."""
        return ""

    def learning_rate_factor(self, warmup_steps: int) -> float:
        """Returns the next step's learning rate as a share of the highest: linear warm-up, then a cosine to a tenth.

        Args:
            warmup_steps: steps of linear warm-up; capped at half of the run, so that a short run reaches its rate.
        """
        return warmup_cosine(self.step, min(warmup_steps, self.total_steps // 2), self.total_steps, _MIN_RATIO)

    def train(self, progress: Progress) -> TrainingResult:
        """Trains until the last step, a signal or an early stop; calls `end_epoch` after each epoch."""
        main = self.fabric.is_global_zero
        with MetricLog(self.run, self.step) if main else nullcontext() as log, StopSignals() as signals:
            self.start(log, progress)
            timer, timer_step, throughput = time.perf_counter(), self.step, ""
            metrics: dict[str, float] = {}
            unread: list[Mapping[str, Tensor | float]] = []
            while self.step < self.total_steps:
                unread.append(self.training_step())
                epoch_done = self.step % self.steps_per_epoch == 0
                is_logged = self.step % self.log_every == 0 or epoch_done
                if is_logged or self.fabric.device.type == "cpu":  # elsewhere the host would wait for the device
                    metrics = self._read(unread)
                if is_logged:
                    rate = (self.step - timer_step) * self.batch_size / (time.perf_counter() - timer)
                    timer, timer_step, throughput = time.perf_counter(), self.step, f"  {rate:.0f} {self.unit}/s"
                    if log is not None:
                        log.log(self.step, metrics | {f"{TIMING_PREFIX}{self.unit}_per_second": rate})
                if metrics:
                    loss, accuracy = metrics[self.loss_metric], metrics[self.accuracy_metric]
                    progress.update(self.step, f"loss {loss:.3f}  accuracy {accuracy:.3f}{throughput}")
                else:
                    progress.update(self.step)
                if epoch_done:
                    self.end_epoch(log, progress)
                    timer, timer_step = time.perf_counter(), self.step
                if should_stop(self.fabric, signals):
                    if not epoch_done:
                        self._read(unread)
                        self.save(is_best=False)
                    return TrainingResult(
                        self.step, signals.exit_status, "stopped by a signal; the step was finished and saved"
                    )
                if epoch_done and (reason := self.early_stop_reason()):
                    progress.say(reason)
                    break
        return TrainingResult(self.step, 0)

    def _read(self, unread: list[Mapping[str, Tensor | float]]) -> dict[str, float]:
        """Checks the losses of steps, notes their metrics, and returns those of the last step.

        Args:
            unread: metrics of the steps since the last call; emptied.
        """
        self.loss_check.confirm()
        scalars = [value for metrics in unread for value in metrics.values() if isinstance(value, Tensor)]
        values = iter(torch.stack([scalar.double() for scalar in scalars]).tolist() if scalars else [])
        numbers: dict[str, float] = {}
        for metrics in unread:
            numbers = {n: next(values) if isinstance(value, Tensor) else value for n, value in metrics.items()}
            self.record_step(numbers)
        unread.clear()
        return numbers
