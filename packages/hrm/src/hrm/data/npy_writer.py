"""Arrays on disk that several processes fill at once, each its own rows."""

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap


def create(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    """A .npy file of this shape, all zeros; it takes room as it is written."""
    open_memmap(path, mode="w+", shape=shape, dtype=np.dtype(dtype))


def write_rows(path: Path, start: int, rows: np.ndarray | bytes) -> None:
    """Writes rows from number `start` on.

    Through the file and not the map, whose pages would count as this process's memory.
    """
    array = np.load(path, mmap_mode="r")
    if isinstance(rows, np.ndarray):
        rows = np.ascontiguousarray(rows, dtype=array.dtype).tobytes()
    with path.open("r+b") as file:
        file.seek(array.offset + start * array.strides[0])
        file.write(rows)
