"""Shows the progress of long work: a live bar on a terminal, a plain line every 15 seconds elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_PLAIN_SECONDS = 15.0


class Progress:
    """A progress display for a known number of steps.

    Args:
        console: console to write to.
        total: number of steps in all.
        label: name of the work.
        done: number of steps that were done before, for resumed work.
    """

    def __init__(self, console: Console, total: int, label: str, done: int = 0) -> None:
        self._console, self._total, self._label = console, total, label
        self._started, self._start_step, self._last_line = time.monotonic(), done, time.monotonic()
        self._note = ""
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(label, total=total, completed=done, note="")

    def update(self, done: int, note: str = "") -> None:
        """Shows the number of finished steps; the last note stays until there is another."""
        self._note = note or self._note
        self._bar.update(self._task, completed=done, note=self._note)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= _PLAIN_SECONDS:
            self._last_line = now
            rate = (done - self._start_step) / (now - self._started)
            left = f", {(self._total - done) / rate:.0f} s left" if rate > 0 else ""
            self.say(f"{self._label} {done}/{self._total}  {self._note}{left}")

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
