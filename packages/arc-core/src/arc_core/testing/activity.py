"""Records what a program asks of a pretended GPU: waits of the host, copies, kernels, each by the line that asked."""

import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_OWN_FOLDER = str(Path(__file__).parent)
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_CALLERS_SHOWN = 2  # lines of the program in one entry: the one that asked, and its caller


@dataclass(eq=False)
class Activity:
    """What happened on the pretended GPU during one recording.

    The counters have as keys what happened and the lines of the program that caused it, such as
    "item @ rlan/trainer.py:170 < rlan/trainer.py:120".

    Attributes:
        waits: times that the host waited until the device had done all that was queued.
        pageable_uploads: copies to the device from memory that is not page-locked; the host waits for these as well.
        pinned_uploads: copies to the device from page-locked memory, during which the host goes on.
        downloads: copies to page-locked memory of the host, during which the host goes on.
        late_waits: waits for an event behind which more work had been queued, so that the device did not fall idle.
        kernels: operations that start at least one kernel, which views do not.
    """

    waits: Counter[str] = field(default_factory=Counter)
    pageable_uploads: Counter[str] = field(default_factory=Counter)
    pinned_uploads: Counter[str] = field(default_factory=Counter)
    downloads: Counter[str] = field(default_factory=Counter)
    late_waits: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)

    @property
    def uploads(self) -> Counter[str]:
        """Copies to the device from any memory."""
        return self.pageable_uploads + self.pinned_uploads

    def describe(self) -> str:
        """Returns the totals in one line, and below it every wait and copy, the most frequent first."""
        counters = {
            "wait": self.waits, "pageable upload": self.pageable_uploads, "pinned upload": self.pinned_uploads,
            "download": self.downloads, "late wait": self.late_waits,
        }  # fmt: skip
        totals = [f"{counter.total()} {name}s" for name, counter in counters.items()]
        lines = [", ".join([*totals, f"{self.kernels.total()} kernels"])]
        for name, counter in counters.items():
            lines += [f"  {count:4} {name}: {place}" for place, count in counter.most_common()]
        return "\n".join(lines)


class _Recorders:
    """The recordings that are running, and the number of kernels since the process began."""

    def __init__(self) -> None:
        self.running: list[Activity] = []
        self.num_kernels = 0


_RECORDERS = _Recorders()


@contextmanager
def record_activity() -> Iterator[Activity]:
    """Records inside the block; recordings may be nested, and each has all that happened in its block."""
    activity = Activity()
    _RECORDERS.running.append(activity)
    try:
        yield activity
    finally:
        _RECORDERS.running.remove(activity)


def count_wait(cause: str) -> None:
    """Counts a wait of the host until the device is idle."""
    _count("waits", cause)


def count_upload(cause: str, pinned: bool) -> None:
    """Counts a copy to the device; the host goes on during a copy from pinned memory."""
    _count("pinned_uploads" if pinned else "pageable_uploads", cause)


def count_download(cause: str) -> None:
    """Counts a copy to the host during which the host goes on."""
    _count("downloads", cause)


def count_late_wait(cause: str) -> None:
    """Counts a wait for an event behind which more work had been queued."""
    _count("late_waits", cause)


def count_kernel(name: str) -> None:
    """Counts an operation on the device."""
    _RECORDERS.num_kernels += 1
    for activity in _RECORDERS.running:
        activity.kernels[name] += 1


def num_kernels() -> int:
    """Returns the number of kernels since the process began."""
    return _RECORDERS.num_kernels


def _count(counter: str, cause: str) -> None:
    if _RECORDERS.running:
        entry = f"{cause} @ {program_lines()}"
        for activity in _RECORDERS.running:
            getattr(activity, counter)[entry] += 1


def program_lines() -> str:
    """Returns the innermost lines of the program in the call stack, those of installed libraries left out."""
    lines: list[str] = []
    frame = sys._getframe(1)
    while frame is not None and len(lines) < _CALLERS_SHOWN:
        file = frame.f_code.co_filename
        if not _is_library(file):
            lines.append(f"{_short_path(file)}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return " < ".join(lines) or "no line of the program"


def _is_library(file: str) -> bool:
    return "site-packages" in file or file.startswith((_OWN_FOLDER, _STANDARD_LIBRARY, "<"))


def _short_path(file: str) -> str:
    _, separator, below_source = file.rpartition("/src/")
    return below_source if separator else Path(file).name
