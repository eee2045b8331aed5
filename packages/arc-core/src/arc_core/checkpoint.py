"""Checkpoints: one whole file a step, read as data only, with `last.json` and `best.json` pointing at two of them."""

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
    """A checkpoint cannot be read; the message names the file and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to continue bit for bit. Random numbers are a function of the step and need no state.

    Attributes:
        method: the method that wrote it.
        step: optimiser steps done.
        model, optimizer, scheduler: their state_dicts.
        ema: averaged weights by parameter name, empty if there is no averaging.
        extras: what else the method keeps, such as its collapse count; plain values and tensors.
        config: the resolved config, nested.
        data_fingerprint: of the training tasks.
        training_data: data specs that the weights were trained on, those of the runs that they came from first.
        best_metric: the best validation so far, compared in order; None before the first.
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
    """The file of a step."""
    return folder / f"step_{step:08d}.pt"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, is_best: bool, keep_last: int) -> Path:
    """Writes the checkpoint whole or not at all, moves the pointers, and drops files that retention lets go.

    Args:
        folder: the run's `checkpoints/`; made if absent.
        is_best: point `best.json` at it too.
        keep_last: how many of the newest to keep beside the best.
    Raises:
        RunFailure: it could not be written; every earlier checkpoint is as it was.
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
    _drop_old(folder, keep_last)
    return path


def _field_names() -> tuple[str, ...]:
    """Names of a checkpoint's fields, as they stand in the file."""
    return tuple(Checkpoint.__dataclass_fields__)


def _drop_old(folder: Path, keep_last: int) -> None:
    best = _pointed(folder, "best")
    for path in list_checkpoints(folder)[keep_last:]:
        if path != best:
            path.unlink(missing_ok=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest step first."""
    return sorted((path for path in folder.glob("step_*.pt") if _NAME.fullmatch(path.name)), reverse=True)


def _pointed(folder: Path, name: str) -> Path | None:
    try:
        pointer = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        path = folder / str(pointer["file"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if _NAME.fullmatch(path.name) and path.is_file() else None


def load_checkpoint(path: Path, method: str, device: torch.device | str = "cpu") -> Checkpoint:
    """The checkpoint in a file, or the one that a run folder or a pointer file names (best before last).

    Raises:
        CheckpointError: absent, damaged, no checkpoint of ours, of another method, or of a newer format.
    """
    file = resolve_checkpoint(path)
    try:
        # torch does not look at the checksums in its files, so a flipped bit in a weight would pass.
        with zipfile.ZipFile(file) as parts:
            if (name := parts.testzip()) is not None:
                raise zipfile.BadZipFile(f"checksum of {name}")
        state = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # what a damaged file makes the readers raise is nowhere written
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
    """The checkpoint file that a path means: itself, or the best (else the last) of a run folder.

    Raises:
        CheckpointError: there is none.
    """
    if path.is_file() and path.suffix != ".json":
        return path
    if path.is_file():
        found = _pointed(path.parent, path.stem)
    else:
        folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        found = _pointed(folder, "best") or _pointed(folder, "last") or next(iter(list_checkpoints(folder)), None)
    if found is None:
        raise CheckpointError(f"no checkpoint at {path}; give a step_*.pt file or a run folder that has one")
    return found


def latest_valid_checkpoint(folder: Path, method: str) -> tuple[Checkpoint, list[str]] | None:
    """The newest checkpoint of a folder that reads well, and a line for each newer one that does not.

    Raises:
        CheckpointError: there are checkpoints and not one of them is whole.
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
