"""Checkpoints: one file for each saved step, loaded without running code; `last.json` and `best.json` point at two."""

import errno
import json
import logging
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from arc_core.errors import InputError, RunFailure
from arc_core.files import write_atomically, write_json

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
_NAME = re.compile(r"step_(\d{8})\.pt")


class CheckpointError(InputError):
    """A checkpoint that cannot be read; the message names the file and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """The complete state of a run, from which it continues bit for bit.

    Random numbers are a function of the step (`arc_core.randomness`), so no generator state is stored.

    Attributes:
        method: name of the method that wrote the checkpoint.
        step: optimiser steps done.
        model, optimizer, scheduler: their state_dicts.
        config: the resolved config as nested plain values.
        data_fingerprint: fingerprint of the training tasks.
        training_data: data specs that the weights were trained on, starting with those of earlier runs.
        ema: averaged weights by parameter name; empty without weight averaging.
        extras: further state of the method, such as its collapse count, as plain values and tensors.
        best_metric: best validation result so far, compared element by element; None before the first validation.
        format_version: version of this format; other versions are refused.
    """

    method: str
    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, object]
    scheduler: Mapping[str, object]
    config: Mapping[str, object]
    data_fingerprint: str
    training_data: tuple[str, ...]
    ema: Mapping[str, Tensor] = field(default_factory=dict)
    extras: Mapping[str, object] = field(default_factory=dict)
    best_metric: tuple[float, ...] | None = None
    format_version: int = FORMAT_VERSION


def checkpoint_path(folder: Path, step: int) -> Path:
    """Returns the path of a step's checkpoint."""
    return folder / f"step_{step:08d}.pt"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, is_best: bool, keep_last: int) -> Path:
    """Writes a checkpoint atomically, updates the pointer files, and deletes checkpoints that are no longer kept.

    Args:
        folder: the run's `checkpoints/`; created if absent.
        checkpoint: the state to write.
        is_best: whether `best.json` shall point at it too.
        keep_last: number of newest checkpoints to keep beside the best.
    Returns:
        The path of the new checkpoint.
    Raises:
        RunFailure: the file could not be written; every earlier checkpoint is intact.
    """
    path = checkpoint_path(folder, checkpoint.step)
    state = {name: getattr(checkpoint, name) for name in _field_names()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: torch.save(state, file))
        for pointer in ("last", "best") if is_best else ("last",):
            write_json(folder / f"{pointer}.json", {"file": path.name, "step": checkpoint.step})
    except (OSError, RuntimeError) as error:  # torch turns a failed write into RuntimeError
        cause = error if isinstance(error, OSError) else error.__context__
        full = isinstance(cause, OSError) and cause.errno == errno.ENOSPC
        reason = "the disk is full" if full else str(cause or error).splitlines()[0]
        raise RunFailure(
            f"checkpoint {path} could not be written: {reason}. Earlier checkpoints are intact; "
            f"free some space and continue with --resume auto"
        ) from error
    _delete_old(folder, keep_last)
    return path


def _field_names() -> tuple[str, ...]:
    """Returns the names of a checkpoint's fields, which are the keys of the file."""
    return tuple(Checkpoint.__dataclass_fields__)


def _delete_old(folder: Path, keep_last: int) -> None:
    best = _read_pointer(folder, "best")
    for path in list_checkpoints(folder)[keep_last:]:
        if path != best:
            path.unlink(missing_ok=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoint files of a folder, newest step first."""
    return sorted((path for path in folder.glob("step_*.pt") if _NAME.fullmatch(path.name)), reverse=True)


def _read_pointer(folder: Path, name: str) -> Path | None:
    """Returns the checkpoint that `last.json` or `best.json` points at, None if the file or its target is missing."""
    try:
        pointer = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        path = folder / str(pointer["file"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if _NAME.fullmatch(path.name) and path.is_file() else None


def load_checkpoint(path: Path, method: str) -> Checkpoint:
    """Loads a checkpoint on the CPU, from where `load_state_dict` copies weights to the device that they are used on.

    A GPU then never holds them twice, and what belongs on the host, such as the steps of an optimiser, stays there.

    Args:
        path: a checkpoint file, a pointer file, or a run folder, whose best checkpoint is preferred to its last.
        method: name of the method that must have written it.
    Raises:
        CheckpointError: the file is missing, damaged, or of another program, method or format.
    """
    file = resolve_checkpoint(path)
    try:
        # torch ignores the checksums in its files, so a flipped bit in a weight would go unnoticed.
        with zipfile.ZipFile(file) as parts:
            if (name := parts.testzip()) is not None:
                raise zipfile.BadZipFile(f"checksum of {name}")
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers do not document what they raise on a damaged file
        logger.debug("loading %s failed", file, exc_info=error)
        raise CheckpointError(
            f"checkpoint {file} is damaged or no checkpoint; use another one, or --resume auto for the newest whole one"
        ) from None
    if not isinstance(state, dict) or not {"format_version", "method", "model"} <= state.keys():
        raise CheckpointError(f"checkpoint {file} was not written by this project")
    if state["format_version"] != FORMAT_VERSION or set(state) != set(_field_names()):
        raise CheckpointError(
            f"checkpoint {file} has format {state['format_version']}; this version reads {FORMAT_VERSION}"
        )
    if state["method"] != method:
        raise CheckpointError(f"checkpoint {file} must be of method {method}; it is of {state['method']}")
    return Checkpoint(**state)


def resolve_checkpoint(path: Path) -> Path:
    """Returns the checkpoint file that a path stands for: itself, or the best (else the last) of a run folder.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    if path.is_file() and path.suffix != ".json":
        return path
    if path.is_file():
        file = _read_pointer(path.parent, path.stem)
    else:
        folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        file = (
            _read_pointer(folder, "best") or _read_pointer(folder, "last") or next(iter(list_checkpoints(folder)), None)
        )
    if file is None:
        raise CheckpointError(f"no checkpoint at {path}; give a step_*.pt file or a run folder that has one")
    return file


def latest_valid_checkpoint(folder: Path, method: str) -> tuple[Checkpoint, list[str]] | None:
    """Loads the newest checkpoint of a folder that can be read.

    Returns:
        The checkpoint, and an error message for each newer one that cannot be read; None if the folder has none.
    Raises:
        CheckpointError: there are checkpoints, and none of them can be read.
    """
    faults: list[str] = []
    for path in list_checkpoints(folder):
        try:
            return load_checkpoint(path, method), faults
        except CheckpointError as error:
            faults.append(str(error))
    if faults:
        raise CheckpointError(f"none of the {len(faults)} checkpoints in {folder} can be read: {faults[0]}")
    return None
