"""Ctrl-C and SIGTERM as requests to stop at the next whole step."""

import os
import signal
from types import FrameType


class StopSignals:
    """Turns the first Ctrl-C or SIGTERM into a request; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)  # files are written atomically, so nothing is left half done
        self.received = number

    @property
    def exit_status(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, 0 if neither came."""
        return 128 + self.received if self.received is not None else 0
