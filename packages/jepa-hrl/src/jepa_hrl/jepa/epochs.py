"""What is kept of epochs: losses, the best validation, the files of the training guide."""

import json
import os
from collections.abc import Mapping
from typing import cast

from arc_core.checkpoint import checkpoint_path
from arc_core.files import write_json, write_text
from arc_core.runs import RunFolder
from jepa_hrl.jepa.config import EarlyStoppingConfig, JepaConfig


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
