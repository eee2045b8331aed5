"""Arrays on disk that several processes fill at once, each its own rows."""

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap


def create_npy(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    """Creates a .npy file of zeros, which takes up room on the disk only as it is written.

    Args:
        path: file to create.
        shape: of the array.
        dtype: as NumPy spells it, such as "u1" or "<i8".
    """
    open_memmap(path, mode="w+", shape=shape, dtype=np.dtype(dtype))


def write_rows(path: Path, start: int, rows: np.ndarray | bytes) -> None:
    """Writes consecutive rows into a .npy file.

    Writes through the file and not through a memory map, whose pages would count as this process's memory.

    Args:
        path: file that `create_npy` made.
        start: index of the first row to write.
        rows: the rows, as an array or as their bytes in the file's dtype.
    """
    array = np.load(path, mmap_mode="r")
    if isinstance(rows, np.ndarray):
        rows = np.ascontiguousarray(rows, dtype=array.dtype).tobytes()
    with path.open("r+b") as file:
        file.seek(array.offset + start * array.strides[0])
        file.write(rows)
