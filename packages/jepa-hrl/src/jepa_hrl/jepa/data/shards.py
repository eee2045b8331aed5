"""Tokens computed once by `pretokenize-jepa`: compressed shards, beside an index that says which tasks they are of."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from arc_core.datasets import fingerprint
from arc_core.errors import InputError
from arc_core.files import show_path, write_atomically, write_json
from arc_core.progress import Progress
from arc_core.task import Task
from jepa_hrl.jepa.config import EncoderConfig, JepaConfig
from jepa_hrl.jepa.data.tasks import tasks_digest, training_tasks
from jepa_hrl.jepa.data.token_table import TokenTable, build_table, concatenate_tables
from jepa_hrl.objects.tokens import GRID_FIELDS, MAX_OBJECTS, OBJECT_FIELDS

_TASKS_PER_SHARD = 2000
_INDEX = "index.json"

Fractions = npt.NDArray[np.float64]


def _token_kind(encoder: EncoderConfig) -> dict[str, object]:
    """Returns all that tokens depend on beside the tasks, as the index of shards stores it."""
    return {
        "object_fields": OBJECT_FIELDS, "grid_fields": GRID_FIELDS, "most_objects": MAX_OBJECTS,
        "connectivity": encoder.connectivity, "one_color": encoder.one_color, "version": 2,
    }  # fmt: skip


def content_fractions(tasks: Sequence[Task]) -> Fractions:
    """Hashes each task's content to a number in 0..1, which decides on its side of the split.

    Returns:
        (T,) fractions; neither more tasks nor another order changes those of a task.
    """
    return np.array([int(task.content_hash[:8], 16) / 16**8 for task in tasks])


def write_shards(config: JepaConfig, folder: Path, workers: int, console: Console) -> tuple[int, int]:
    """Writes shards and then the index; valid shards of the same tasks are kept.

    Args:
        config: recipe that names the tasks and the kind of tokens.
        folder: where the shards are written.
        workers: processes; -1 for one for each core.
        console: shows the progress.
    Returns:
        The number of tasks, and the bytes of all shards.
    """
    encoder, source = config.object_encoder, tasks_digest(config.data, console)
    _, tasks = training_tasks(config.data, console)
    folder.mkdir(parents=True, exist_ok=True)
    index, kind, names = folder / _INDEX, _token_kind(encoder), []
    index.unlink(missing_ok=True)
    starts = range(0, len(tasks), _TASKS_PER_SHARD)
    with Progress(console, len(tasks), "tasks") as progress:
        for shard, start in enumerate(starts):
            part = tasks[start : start + _TASKS_PER_SHARD]
            path = folder / f"tokens_{shard:04d}.npz"
            stamp = json.dumps(kind | {"fingerprint": fingerprint(part)}, sort_keys=True)
            if not _is_valid(path, stamp):
                table = build_table(part, encoder.connectivity == 8, encoder.one_color, workers)
                arrays = {
                    "objects": table.objects, "grids": table.grids, "starts": table.starts, "tasks": table.tasks,
                    "draws": content_fractions(part), "stamp": np.frombuffer(stamp.encode(), dtype=np.uint8),
                }  # fmt: skip
                write_atomically(path, lambda file, arrays=arrays: np.savez_compressed(file, **arrays))  # type: ignore[misc]
            names.append(path.name)
            progress.update(start + len(part))
    write_json(
        index,
        {
            "tasks": len(tasks), "fingerprint": fingerprint(tasks), "source": source, "tokens": kind, "shards": names,
        },
    )  # fmt: skip
    return len(tasks), sum((folder / name).stat().st_size for name in names)


def _is_valid(path: Path, stamp: str) -> bool:
    """Tells whether a shard exists, can be read, and is of the tasks and the kind of tokens that a stamp names."""
    try:
        with np.load(path) as arrays:
            return bytes(arrays["stamp"]) == stamp.encode()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False


def read_shards(folder: Path, config: JepaConfig, console: Console) -> tuple[TokenTable, Fractions]:
    """Reads the tokens of a config's tasks from shards.

    The tasks themselves are read only if the bytes that they are stored in differ from those that the shards came from.

    Args:
        folder: that `write_shards` wrote.
        config: recipe that names the tasks and the kind of tokens.
        console: is told where tasks have to be generated first.
    Returns:
        The table of the tasks, and their `content_fractions`.
    Raises:
        InputError: there are no shards, they are of other tasks or another kind of tokens, or they are damaged.
    """
    again = f"write them again with pretokenize-jepa --output {show_path(folder)}"
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        stored, kind, names = index["fingerprint"], index["tokens"], index["shards"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"pre_tokenized.path {folder} has no index of shards; {again}") from None
    source = tasks_digest(config.data, console)
    if source is None or source != index.get("source"):
        expected = fingerprint(training_tasks(config.data, console)[1])
        if stored != expected:
            raise InputError(f"the shards in {folder} are stale: of tasks {stored}, not {expected}; {again}")
    if kind != _token_kind(config.object_encoder):
        raise InputError(f"the shards in {folder} are stale: their tokens are of another kind; {again}")
    parts, fractions = [], []
    for name in names:
        try:
            with np.load(folder / Path(str(name)).name) as arrays:
                parts.append(TokenTable(arrays["objects"], arrays["grids"], arrays["starts"], arrays["tasks"], stored))
                fractions.append(arrays["draws"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            raise InputError(f"shard {folder / str(name)} is absent or damaged; {again}") from None
    return concatenate_tables(parts, stored), np.concatenate(fractions)
