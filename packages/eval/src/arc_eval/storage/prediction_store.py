"""predictions.jsonl: one line a method and task, appended as they come, so that an interrupted comparison goes on."""

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from arc_core.errors import RunFailure
from arc_core.files import lock_folder, write_text
from arc_eval.storage.records import Line, Lines, is_line


class PredictionStore:
    """Stored predictions by (method, checkpoint) and task id."""

    def __init__(self, path: Path, fresh: Sequence[str] = ()) -> None:
        """Opens the file; a last line cut off by a kill is dropped.

        Args:
            fresh: methods whose stored predictions are forgotten.
        Raises:
            InputError: another process writes to its folder.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._held = ExitStack()
        self._held.enter_context(lock_folder(path.parent))
        whole, dropped = read_lines(path)
        lines = [line for line in whole if line["method"] not in fresh]
        if dropped or len(lines) < len(whole):
            write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
        self._lines = by_method(lines)
        self._file = path.open("a", encoding="utf-8")

    def of(self, method: str, checkpoint: str) -> Lines:
        """The lines of a method's checkpoint by task id."""
        return self._lines.get((method, checkpoint), {})

    def append(self, lines: Iterable[Line]) -> None:
        """Stores lines and flushes them.

        Raises:
            RunFailure: they could not be written.
        """
        try:
            for line in lines:
                self._file.write(json.dumps(line) + "\n")
                _put(self._lines, line)
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
        self._held.close()


def by_method(lines: Iterable[Line]) -> dict[tuple[str, str], dict[str, Line]]:
    """Lines by (method, checkpoint) and task id; of several for one task the last."""
    found: dict[tuple[str, str], dict[str, Line]] = {}
    for line in lines:
        _put(found, line)
    return found


def _put(found: dict[tuple[str, str], dict[str, Line]], line: Line) -> None:
    found.setdefault((line["method"], line["checkpoint"]), {})[line["task_id"]] = line


def read_lines(path: Path) -> tuple[list[Line], int]:
    """The whole lines of a predictions.jsonl and the number of others; none where there is no file."""
    if not path.exists():
        return [], 0
    lines: list[Line] = []
    dropped = 0
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            value = json.loads(text) if text.endswith("\n") else None
        except (ValueError, RecursionError):
            value = None
        if value is not None and is_line(value):
            lines.append(value)
        else:
            dropped += 1
    return lines, dropped
