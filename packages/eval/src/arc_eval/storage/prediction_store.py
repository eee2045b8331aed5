"""predictions.jsonl: one record for each method and task, appended as they come, so that comparisons can be resumed."""

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from arc_core.errors import RunFailure
from arc_core.files import lock_folder, write_text
from arc_eval.storage.records import PredictionRecord, Records, is_prediction_record

RecordsByCheckpoint = dict[tuple[str, str], dict[str, PredictionRecord]]  # by (method, checkpoint key), then task id


class PredictionStore:
    """The predictions of a comparison's folder, locked against other processes while the store is open."""

    def __init__(self, path: Path, forget: Sequence[str] = ()) -> None:
        """Opens or creates the file, and drops a last line that a kill cut off.

        Args:
            path: the predictions.jsonl; its folder is created if absent.
            forget: names of methods whose stored predictions are deleted.
        Raises:
            InputError: another process writes to the folder.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = ExitStack()
        self._lock.enter_context(lock_folder(path.parent))
        stored, invalid_lines = read_records(path)
        records = [record for record in stored if record["method"] not in forget]
        if invalid_lines or len(records) < len(stored):
            write_text(path, "".join(json.dumps(record) + "\n" for record in records))
        self._records = group_by_checkpoint(records)
        self._file = path.open("a", encoding="utf-8")

    def records(self, method: str, checkpoint_key: str) -> Records:
        """Returns the records of a method's checkpoint by task id."""
        return self._records.get((method, checkpoint_key), {})

    def append(self, records: Iterable[PredictionRecord]) -> None:
        """Stores records and flushes them to the file.

        Raises:
            RunFailure: they could not be written.
        """
        try:
            for record in records:
                self._file.write(json.dumps(record) + "\n")
                _insert(self._records, record)
            self._file.flush()
        except OSError as error:
            raise RunFailure(
                f"{self._file.name} could not be written: {error.strerror}; what it holds is whole, the same command "
                "goes on"
            ) from error

    def __enter__(self) -> "PredictionStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.close()


def group_by_checkpoint(records: Iterable[PredictionRecord]) -> RecordsByCheckpoint:
    """Groups records by (method, checkpoint key) and task id; the last of several for one task wins."""
    groups: RecordsByCheckpoint = {}
    for record in records:
        _insert(groups, record)
    return groups


def _insert(groups: RecordsByCheckpoint, record: PredictionRecord) -> None:
    groups.setdefault((record["method"], record["checkpoint"]), {})[record["task_id"]] = record


def read_records(path: Path) -> tuple[list[PredictionRecord], int]:
    """Reads the valid records of a predictions.jsonl and counts its invalid lines; a missing file has none."""
    if not path.exists():
        return [], 0
    records: list[PredictionRecord] = []
    invalid_lines = 0
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            value = json.loads(text) if text.endswith("\n") else None
        except (ValueError, RecursionError):
            value = None
        if value is not None and is_prediction_record(value):
            records.append(value)
        else:
            invalid_lines += 1
    return records, invalid_lines
