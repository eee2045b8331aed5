"""predictions.jsonl: one line a method and task, appended as they come, so that an interrupted comparison goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from arc_core.errors import RunFailure
from arc_core.files import write_text

Line = Mapping[str, object]


class PredictionStore:
    """Stored predictions by (method, checkpoint) and task id."""

    def __init__(self, path: Path, fresh: bool) -> None:
        """Opens the file; a last line cut off by a kill is dropped.

        Args:
            fresh: forget what is stored.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [] if fresh or not path.exists() else _whole_lines(path)
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
        self._lines: dict[tuple[str, str], dict[str, Line]] = {}
        for line in lines:
            self._keep(line)
        self._file = path.open("a", encoding="utf-8")

    def _keep(self, line: Line) -> None:
        method = (str(line["method"]), str(line["checkpoint"]))
        self._lines.setdefault(method, {})[str(line["task_id"])] = line

    def of(self, method: str, checkpoint: str) -> Mapping[str, Line]:
        """The lines of a method's checkpoint by task id."""
        return self._lines.get((method, checkpoint), {})

    def append(self, line: Line) -> None:
        """Stores a line and flushes it.

        Raises:
            RunFailure: it could not be written.
        """
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunFailure(f"{self._file.name} could not be written: {error.strerror}") from error
        self._keep(line)

    def __enter__(self) -> "PredictionStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _whole_lines(path: Path) -> list[Line]:
    lines: list[Line] = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and {"method", "checkpoint", "task_id", "candidates", "seconds"} <= line.keys():
            lines.append(line)
    return lines
