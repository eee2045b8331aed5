"""Grids: read-only numpy uint8 arrays of shape (H, W), 1..30 cells on each side, colours 0..9."""

import hashlib
from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

_TYPE_NAMES = {
    list: "list",
    dict: "object",
    str: "string",
    float: "float",
    bool: "boolean",
    type(None): "null",
}

Grid = npt.NDArray[np.uint8]

MAX_SIDE = 30
NUM_COLORS = 10


class GridError(ValueError):
    """A value that is not an ARC grid; the message says in which row, what must hold and what came."""


def _fault_in_row(row: object, index: int, width: int) -> str | None:
    """Describes what is wrong with row `index` of a grid of so many columns; None if it is valid."""
    if not isinstance(row, list):
        return f"row {index} must be a list of colours 0..9; got {describe(row)}"
    for column, cell in enumerate(row):
        if type(cell) is not int:
            return f"row {index}, column {column} must be an integer 0..9; got {describe(cell)}"
        if not 0 <= cell < NUM_COLORS:
            return f"row {index}, column {column} must be a colour 0..9; got {describe(cell)}"
    if len(row) != width:
        return f"row {index} must have {width} cells like row 0; got {len(row)}"
    return None


def describe(value: object) -> str:
    """Describes a JSON value briefly for an error message."""
    text = ascii(value) if isinstance(value, str | int | float | None) else ""
    name = _TYPE_NAMES.get(type(value), type(value).__name__)
    return f"{name} {text}".strip() if len(text) <= 24 and value is not None else name


def grid_from_rows(rows: object) -> Grid:
    """Converts a JSON value to a grid.

    Args:
        rows: a list of 1..30 lists of 1..30 integers 0..9, all of one length.
    Raises:
        GridError: `rows` is anything else.
    """
    if not isinstance(rows, list):
        raise GridError(f"must be a list of rows; got {describe(rows)}")
    if not 1 <= len(rows) <= MAX_SIDE:
        raise GridError(f"must have 1..{MAX_SIDE} rows; got {len(rows)}")
    width = len(rows[0]) if isinstance(rows[0], list) else 0
    if isinstance(rows[0], list) and not 1 <= width <= MAX_SIDE:
        raise GridError(f"row 0 must have 1..{MAX_SIDE} cells; got {width}")
    # Types and lengths are checked for the whole grid at once: this runs on every cell of every data set.
    plain = all(type(row) is list and len(row) == width for row in rows)
    if plain and set(map(type, chain.from_iterable(rows))) == {int}:
        try:
            grid = np.frombuffer(b"".join(map(bytes, rows)), dtype=np.uint8).reshape(len(rows), width)
        except ValueError:  # a cell outside 0..255
            grid = None
        if grid is not None and grid.max() < NUM_COLORS:
            return grid
    for index, row in enumerate(rows):
        fault = _fault_in_row(row, index, width)
        if fault is not None:
            raise GridError(fault)
    raise GridError("must be a rectangle of integers 0..9")  # unreachable: every fault is named above


def check_grid(array: npt.ArrayLike) -> Grid:
    """Converts an array to a read-only grid; a contiguous, read-only uint8 array is returned as it is.

    Args:
        array: (H, W) integers 0..9, 1..30 on each side.
    Raises:
        GridError: the array has another shape, type or range.
    """
    value = np.asarray(array)
    if value.ndim != 2 or not all(1 <= side <= MAX_SIDE for side in value.shape):
        raise GridError(f"grid must be (H, W) with 1..{MAX_SIDE} on each side; got shape {value.shape}")
    if not np.issubdtype(value.dtype, np.integer):
        raise GridError(f"grid must hold integers; got {value.dtype}")
    if value.min() < 0 or value.max() >= NUM_COLORS:
        raise GridError(f"grid must hold colours 0..9; got {value.min()}..{value.max()}")
    if value.dtype == np.uint8 and not value.flags.writeable and value.flags.c_contiguous:
        return value
    grid = np.array(value, dtype=np.uint8, order="C")
    grid.flags.writeable = False
    return grid


def grid_to_text(grid: Grid) -> str:
    """Converts a grid to text: one line for each row, one digit for each cell, no separators."""
    return "\n".join("".join(map(str, row)) for row in grid.tolist())


def grid_from_text(text: str) -> Grid:
    """Converts text to a grid; the inverse of `grid_to_text`.

    Raises:
        GridError: a character is not a digit, or the rows do not form a grid.
    """
    lines = text.splitlines()
    for index, line in enumerate(lines):
        if not (line.isascii() and line.isdigit()):
            raise GridError(f"row {index} must be digits 0..9; got {describe(line)}")
    return grid_from_rows([[int(cell) for cell in line] for line in lines])


def grid_hash(grid: Grid) -> str:
    """Returns 32 hexadecimal digits of a hash over a grid's shape and cells."""
    return hash_grids([grid])


def hash_grids(grids: Sequence[Grid]) -> str:
    """Returns 32 hexadecimal digits of a hash over a sequence of grids, order included."""
    digest = hashlib.blake2b(digest_size=16)
    for grid in grids:
        digest.update(bytes(grid.shape))
        digest.update(grid.tobytes())
    return digest.hexdigest()


def most_common_color(grid: Grid) -> int:
    """Returns the grid's most frequent colour, the lowest one on a tie, which is taken for its background."""
    return int(np.bincount(grid.ravel(), minlength=NUM_COLORS).argmax())
