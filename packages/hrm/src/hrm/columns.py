"""Arrays on disk that grow by rows."""

from pathlib import Path

import numpy as np


class Column:
    """A .npy file that grows by rows; its header is written when the length is known."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self.path, self._shape, self._dtype, self._rows = path, shape, np.dtype(dtype), 0
        self._file = path.open("wb")
        self._file.write(b"\0" * self._header_size())

    def _header(self) -> bytes:
        text = str({"descr": self._dtype.str, "fortran_order": False, "shape": (self._rows, *self._shape)})
        # Version 1.0 of the format: magic, length, text padded with spaces. 118 bytes of text make 128 in all.
        return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"

    def _header_size(self) -> int:
        return len(self._header())

    def append(self, rows: np.ndarray) -> None:
        """Adds rows."""
        self._rows += len(rows)
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).tobytes())

    def close(self) -> int:
        """Writes the header; gives the number of rows."""
        self._file.seek(0)
        self._file.write(self._header())
        self._file.close()
        return self._rows
