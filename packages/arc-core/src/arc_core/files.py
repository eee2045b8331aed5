"""Files that are whole or absent, whenever the writer is stopped."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from arc_core.errors import InputError


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes to a temporary name beside `path`, flushes to the disk, renames; on failure the old file stays.

    Raises:
        OSError: as the file system gives it (disk full, no permission).
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
    """`write_atomically` for UTF-8 text."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: Path, value: object) -> None:
    """`write_atomically` for indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable, where the system lets a folder be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Holds a folder against other processes that would write to it; ends with the process, however that ends.

    Raises:
        InputError: another process holds it.
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
    """The path relative to the working directory where that is shorter."""
    text = os.path.relpath(path)
    return text if len(text) < len(str(path)) else str(path)
