"""Files that a run updates after each epoch: metrics.json and embedding_metrics.jsonl."""

import json
from collections.abc import Mapping
from typing import cast

from arc_core.epochs import EpochRecord
from arc_core.files import write_json, write_text
from arc_core.runs import RunFolder
from jepa_hrl.jepa.config import JepaConfig


def write_epoch_files(
    run: RunFolder, config: JepaConfig, record: EpochRecord, epoch: int, step: int, metrics: Mapping[str, float],
    codebook: Mapping[str, float],
) -> None:  # fmt: skip
    """Writes metrics.json and the epoch's line of embedding_metrics.jsonl.

    The latter is cut back to earlier epochs first: a resumed run may end an epoch a second time.

    Args:
        run: folder to write to.
        config: of the run.
        record: losses of the epochs so far.
        epoch: epochs done.
        step: optimiser steps done.
        metrics: validation metrics; those below `diagnostics/` go into embedding_metrics.jsonl.
        codebook: usage of the quantiser's codes; empty without a quantiser.
    """
    stopping = config.training.early_stopping
    stopped = stopping.enabled and record.stale >= stopping.patience
    write_json(
        run.path / "metrics.json",
        {
            "completed_epochs": epoch, "batch_size": config.training.batch_size, "losses": record.losses,
            "val_losses": record.validation_losses, "best_val_loss": record.best,
            "early_stopping_epoch": epoch if stopped else None,
        },
    )  # fmt: skip
    line: dict[str, object] = {"epoch": epoch, "step": step}
    for name, value in metrics.items():
        _, _, diagnostic = name.partition("diagnostics/")
        if diagnostic:
            part, _, measure = diagnostic.partition("/")
            cast("dict[str, float]", line.setdefault(part, {}))[measure] = value
    if codebook:
        line["vq"] = dict(codebook)
    path = run.path / "embedding_metrics.jsonl"
    earlier = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [text for text in earlier if json.loads(text)["epoch"] < epoch]
    write_text(path, "".join(text + "\n" for text in [*kept, json.dumps(line)]))
