"""Writes files atomically, so that a kill leaves the old file or the new one, and locks folders."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from arc_core.errors import InputError


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a temporary file beside `path`, flushes it to the disk and renames it; on failure the old file stays.

    Args:
        path: the file to write.
        write: writes the content to an open binary file.
    Raises:
        OSError: the file system refuses, because the disk is full, for example.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable, on systems that can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Locks a folder against other processes that would write to it; the lock ends with the process in any case.

    Raises:
        InputError: another process holds the lock.
    """
    lock = FileLock(folder / ".lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{show_path(folder)} is being written by another process; wait until it ends, or write to another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def show_path(path: Path) -> str:
    """Returns the path relative to the working directory where that is shorter."""
    text = os.path.relpath(path)
    return text if len(text) < len(str(path)) else str(path)
