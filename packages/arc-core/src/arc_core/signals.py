"""Handles Ctrl-C and SIGTERM: as requests to stop after the current step, or as exceptions that unwind the stack."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class SigtermReceived(KeyboardInterrupt):
    """The exception that SIGTERM raises; code that cleans up after Ctrl-C cleans up after it too."""


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM raise `SigtermReceived` inside the block; else it would kill the process and orphan its workers."""
    is_default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not is_default or threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)  # a second SIGTERM ends the process at once
        raise SigtermReceived

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StopSignals:
    """Turns the first Ctrl-C or SIGTERM into a request to stop; a second one ends the process at once.

    Attributes:
        received: number of the signal that was received, None before.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + signum)  # files are written atomically, so none is left incomplete
        self.received = signum

    @property
    def exit_status(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, 0 if neither was received."""
        return 128 + self.received if self.received is not None else 0
