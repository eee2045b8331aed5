"""`pretokenize-jepa`: tokens computed once, as compressed shards beside an index that says of which tasks."""

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
from jepa_hrl.jepa.data.token_table import TokenTable, build_table, joined
from jepa_hrl.objects.tokens import GRID_FIELDS, MAX_OBJECTS, OBJECT_FIELDS

_TASKS_A_SHARD = 2000
_INDEX = "index.json"

Draws = npt.NDArray[np.float64]


def _token_kind(encoder: EncoderConfig) -> dict[str, object]:
    """What tokens depend on beside the tasks."""
    return {
        "object_fields": OBJECT_FIELDS, "grid_fields": GRID_FIELDS, "most_objects": MAX_OBJECTS,
        "connectivity": encoder.connectivity, "one_color": encoder.one_color, "version": 2,
    }  # fmt: skip


def content_draws(tasks: Sequence[Task]) -> Draws:
    """(T,) numbers in 0..1 by the tasks' content, so that more tasks or another order leave each its own."""
    return np.array([int(task.content_hash[:8], 16) / 16**8 for task in tasks])


def write_shards(config: JepaConfig, folder: Path, workers: int, console: Console) -> tuple[int, int]:
    """Writes shards and then the index; shards of the same tasks that are there already are kept.

    Returns:
        Tasks, and bytes of all shards.
    """
    encoder, source = config.object_encoder, tasks_digest(config.data, console)
    _, tasks = training_tasks(config.data, console)
    folder.mkdir(parents=True, exist_ok=True)
    index, kind, names = folder / _INDEX, _token_kind(encoder), []
    index.unlink(missing_ok=True)
    starts = range(0, len(tasks), _TASKS_A_SHARD)
    with Progress(console, len(tasks), "tasks") as progress:
        for number, start in enumerate(starts):
            some = tasks[start : start + _TASKS_A_SHARD]
            path = folder / f"tokens_{number:04d}.npz"
            stamp = json.dumps(kind | {"fingerprint": fingerprint(some)}, sort_keys=True)
            if not _is_whole(path, stamp):
                table = build_table(some, encoder.connectivity == 8, encoder.one_color, workers)
                arrays = {
                    "objects": table.objects, "grids": table.grids, "starts": table.starts, "tasks": table.tasks,
                    "draws": content_draws(some), "stamp": np.frombuffer(stamp.encode(), dtype=np.uint8),
                }  # fmt: skip
                write_atomically(path, lambda file, arrays=arrays: np.savez_compressed(file, **arrays))  # type: ignore[misc]
            names.append(path.name)
            progress.update(start + len(some))
    write_json(
        index,
        {
            "tasks": len(tasks), "fingerprint": fingerprint(tasks), "source": source, "tokens": kind, "shards": names,
        },
    )  # fmt: skip
    return len(tasks), sum((folder / name).stat().st_size for name in names)


def _is_whole(path: Path, stamp: str) -> bool:
    try:
        with np.load(path) as arrays:
            return bytes(arrays["stamp"]) == stamp.encode()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False


def read_shards(folder: Path, config: JepaConfig, console: Console) -> tuple[TokenTable, Draws]:
    """The table of a config's tasks, and their `content_draws`, from shards.

    The tasks themselves are read only where the shards are not of the very bytes that the tasks lie in.

    Raises:
        InputError: there are none, they are of other tasks or another kind of tokens, or they are damaged.
    """
    again = f"write them again with pretokenize-jepa --output {show_path(folder)}"
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        found, kind, names = index["fingerprint"], index["tokens"], index["shards"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"pre_tokenized.path {folder} has no index of shards; {again}") from None
    source = tasks_digest(config.data, console)
    if source is None or source != index.get("source"):
        wanted = fingerprint(training_tasks(config.data, console)[1])
        if found != wanted:
            raise InputError(f"the shards in {folder} are stale: of tasks {found}, not {wanted}; {again}")
    if kind != _token_kind(config.object_encoder):
        raise InputError(f"the shards in {folder} are stale: their tokens are of another kind; {again}")
    parts, draws = [], []
    for name in names:
        try:
            with np.load(folder / Path(str(name)).name) as arrays:
                parts.append(TokenTable(arrays["objects"], arrays["grids"], arrays["starts"], arrays["tasks"], found))
                draws.append(arrays["draws"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            raise InputError(f"shard {folder / str(name)} is absent or damaged; {again}") from None
    return joined(parts, found), np.concatenate(draws)
