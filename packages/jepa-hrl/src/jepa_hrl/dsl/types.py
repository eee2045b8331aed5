"""The types of the language's values: grids, masks, fields, objects, colours and numbers.

A grid's colour 0 (black) is the ground. The annotations of a primitive name the kinds of its arguments and of its
result; the search reads its type from them. Values are never changed in place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Annotated

import numpy as np
import numpy.typing as npt

from arc_core.grid import MAX_SIDE, grid_from_text, grid_to_text


class Kind(Enum):
    """The types of the language."""

    GRID = "Grid"
    MASK = "Mask"
    FIELD = "Field"
    OBJECT = "Object"
    OBJECTS = "Objects"
    COLOR = "Color"
    INT = "Int"
    MEASURE = "Measure"
    FUNCTION = "Function"
    TABLE = "Table"


Array = npt.NDArray[np.uint8]

Grid = Annotated[Array, Kind.GRID]  # (H, W) colours 0..9
Mask = Annotated[Array, Kind.MASK]  # (H, W) 0 or 1
Field = Annotated[Array, Kind.FIELD]  # (H, W) numbers 0..255, one a cell
Color = Annotated[int, Kind.COLOR]  # 0..9
Int = Annotated[int, Kind.INT]  # 0..900
Function = Annotated[Callable[[Array], "Array | Refusal"], Kind.FUNCTION]
Measure = Annotated[Callable[["Objects"], list[int]], Kind.MEASURE]
Table = Annotated[Mapping[tuple[int, ...], int], Kind.TABLE]  # one value of each field -> colour


@dataclass(frozen=True)
class Refusal:
    """The value of a primitive that has no result for its arguments, with the reason."""

    reason: str


NOTHING = Refusal("there is nothing of that sort")
TOO_LARGE = Refusal("the result would pass 30 x 30")
UNEQUAL = Refusal("the sizes do not agree")
SEVERAL = Refusal("more than one has an equal claim")
UNSEEN = Refusal("the table lacks a cell's values")


@dataclass(frozen=True, eq=False, slots=True)
class Object:
    """A set of cells of a grid.

    Attributes:
        cells: (h, w) uint8, the colours of its cells within their bounding box, 0 elsewhere.
        mask: (h, w) bool, the cells of the box that are the object's; an object may hold black cells.
        top, left: row and column of the box's first cell in the source.
        source: (H, W) uint8, the grid.
    """

    cells: Array
    mask: npt.NDArray[np.bool_]
    top: int
    left: int
    source: Array


@dataclass(frozen=True, eq=False)
class Objects:
    """One or more objects of one grid, in reading order of their boxes' corners unless ordered otherwise.

    Attributes:
        items: the objects.
        measurements: results of measures by name, so that each measure is computed once.
    """

    items: tuple[Object, ...]
    measurements: dict[object, list[int]] = field(default_factory=dict)

    @property
    def source(self) -> Array:
        """The grid that the objects are of."""
        return self.items[0].source

    @cached_property
    def sizes(self) -> list[int]:
        """Number of cells of each object."""
        return [int(np.count_nonzero(item.mask)) for item in self.items]


Value = Array | Object | Objects | int
Argument = Value | Callable[..., object] | Mapping[tuple[int, ...], int]


def grid(text: str) -> Array:
    """Reads a grid from rows of digits with slashes between them, such as "12/34"."""
    return grid_from_text(text.replace("/", "\n"))


def text(value: "Array | Object | Refusal") -> str:
    """Writes a grid or an object's cells as `grid` reads them, and a refusal as its reason."""
    if isinstance(value, Refusal):
        return value.reason
    return grid_to_text(value.cells if isinstance(value, Object) else value).replace("\n", "/")


def key_of(value: Value) -> object:
    """Returns a hashable key that two values share if and only if they are equal."""
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if isinstance(value, Object):
        return value.top, value.left, value.mask.shape, value.mask.tobytes(), value.cells.tobytes()
    if isinstance(value, Objects):
        return tuple(map(key_of, value.items))
    return value


def fits(height: int, width: int) -> bool:
    """Whether a grid may have this size: 1..30 on each side."""
    return 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE
