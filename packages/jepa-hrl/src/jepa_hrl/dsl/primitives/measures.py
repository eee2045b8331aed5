"""A number for each of some objects."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.primitives.objects import FOUR
from jepa_hrl.dsl.primitives.planes import add_border, colors_of, main_color
from jepa_hrl.dsl.types import Kind, Objects

Numbers = Annotated[list[int], Kind.MEASURE]


def count_holes(mask: npt.NDArray[np.bool_]) -> int:
    """Counts the areas within a mask from which no path along sides leads out."""
    if min(mask.shape) < 3 or mask.all():
        return 0
    return int(ndimage.label(add_border(~mask, 1), FOUR)[1]) - 1


@primitive(1)
def size(objects: Objects) -> Numbers:
    """Number of cells.

    >>> size(components(grid("110/002")))
    [2, 1]
    """
    return objects.sizes


@primitive(3)
def height(objects: Objects) -> Numbers:
    """Height.

    >>> height(components(grid("110/002")))
    [1, 1]
    """
    return [item.mask.shape[0] for item in objects.items]


@primitive(3)
def width(objects: Objects) -> Numbers:
    """Width.

    >>> width(components(grid("110/002")))
    [2, 1]
    """
    return [item.mask.shape[1] for item in objects.items]


@primitive(4)
def box_area(objects: Objects) -> Numbers:
    """Area of the bounding box.

    >>> box_area(components(grid("110/102")))
    [4, 1]
    """
    return [item.mask.size for item in objects.items]


@primitive(3)
def num_colors(objects: Objects) -> Numbers:
    """Number of colours.

    >>> num_colors(blobs(grid("120/003/003")))
    [2, 1]
    """
    return [len(colors_of(item.cells)) for item in objects.items]


@primitive(2)
def color(objects: Objects) -> Numbers:
    """Main colour.

    >>> color(blobs(grid("122/000/300")))
    [2, 3]
    """
    return list(map(main_color, objects.items))


@primitive(4)
def colored_cells(objects: Objects) -> Numbers:
    """Number of cells that are not black.

    >>> colored_cells(pieces(grid("105/025/555/005")))
    [2, 0]
    """
    return [int(np.count_nonzero(item.cells)) for item in objects.items]


@primitive(4)
def minor_cells(objects: Objects) -> Numbers:
    """Number of cells that are not of the object's main colour.

    >>> minor_cells(blobs(grid("122/000/300")))
    [1, 0]
    """
    return [
        int(np.count_nonzero(item.mask)) - int(np.bincount(item.cells[item.mask], minlength=10).max())
        for item in objects.items
    ]


@primitive(3)
def hole_count(objects: Objects) -> Numbers:
    """Number of holes.

    >>> hole_count(components(grid("11100/10102/11100")))
    [1, 0]
    """
    return [count_holes(item.mask) for item in objects.items]


@primitive(4)
def is_box(objects: Objects) -> Numbers:
    """Whether it fills its bounding box.

    >>> is_box(components(grid("110/102")))
    [0, 1]
    """
    return [int(item.mask.all()) for item in objects.items]


@primitive(4)
def is_square(objects: Objects) -> Numbers:
    """Whether its bounding box is a square.

    >>> is_square(components(grid("110/102")))
    [1, 1]
    """
    return [int(item.mask.shape[0] == item.mask.shape[1]) for item in objects.items]


@primitive(4)
def is_tall(objects: Objects) -> Numbers:
    """Whether it is taller than wide.

    >>> is_tall(components(grid("10/10/02")))
    [1, 0]
    """
    return [int(item.mask.shape[0] > item.mask.shape[1]) for item in objects.items]


@primitive(3)
def mirrors(objects: Objects) -> Numbers:
    """Of left-right and top-bottom mirroring, how many leave it as it is.

    >>> mirrors(components(grid("111/010/000/022")))
    [1, 2]
    """
    return [
        int(np.array_equal(item.cells, item.cells[:, ::-1])) + int(np.array_equal(item.cells, item.cells[::-1]))
        for item in objects.items
    ]


@primitive(4)
def is_symmetric(objects: Objects) -> Numbers:
    """Whether any mirroring, diagonal ones included, leaves it as it is.

    >>> is_symmetric(components(grid("110/100/000/220/022")))
    [1, 0]
    """
    return [int(any(np.array_equal(c, m) for m in (c[::-1], c[:, ::-1], c.T, c[::-1, ::-1].T))) for c in
            (item.cells for item in objects.items)]  # fmt: skip


@primitive(3)
def touches_border(objects: Objects) -> Numbers:
    """Whether it touches the grid's border.

    >>> touches_border(components(grid("100/020/000")))
    [1, 0]
    """
    tall, wide = objects.source.shape
    return [
        int(item.top == 0 or item.left == 0 or item.top + item.mask.shape[0] == tall
            or item.left + item.mask.shape[1] == wide)
        for item in objects.items
    ]  # fmt: skip


@primitive(4)
def top(objects: Objects) -> Numbers:
    """Row of its top.

    >>> top(components(grid("100/020")))
    [0, 1]
    """
    return [item.top for item in objects.items]


@primitive(4)
def left(objects: Objects) -> Numbers:
    """Column of its left.

    >>> left(components(grid("100/020")))
    [0, 1]
    """
    return [item.left for item in objects.items]


@primitive(5)
def bottom(objects: Objects) -> Numbers:
    """Row below it.

    >>> bottom(components(grid("100/020")))
    [1, 2]
    """
    return [item.top + item.mask.shape[0] for item in objects.items]


@primitive(5)
def right(objects: Objects) -> Numbers:
    """Column right of it.

    >>> right(components(grid("100/020")))
    [1, 2]
    """
    return [item.left + item.mask.shape[1] for item in objects.items]


@primitive(4)
def same_shape(objects: Objects) -> Numbers:
    """Number of objects of its shape.

    >>> same_shape(components(grid("110/000/220/000/303")))
    [2, 2, 2, 2]
    """
    keys = [(item.mask.shape, item.mask.tobytes()) for item in objects.items]
    return [keys.count(key) for key in keys]


@primitive(4)
def same_color(objects: Objects) -> Numbers:
    """Number of objects of its main colour.

    >>> same_color(components(grid("10102")))
    [2, 2, 1]
    """
    colors = color(objects)
    return [colors.count(one) for one in colors]


@primitive(4)
def same_cells(objects: Objects) -> Numbers:
    """Number of objects that look the same.

    >>> same_cells(components(grid("10102")))
    [2, 2, 1]
    """
    keys = [(item.cells.shape, item.cells.tobytes()) for item in objects.items]
    return [keys.count(key) for key in keys]


@primitive(5)
def same_size(objects: Objects) -> Numbers:
    """Number of objects with as many cells.

    >>> same_size(components(grid("110/002/300")))
    [1, 2, 2]
    """
    return [objects.sizes.count(one) for one in objects.sizes]


@primitive(5)
def order(objects: Objects) -> Numbers:
    """Place in the order of the objects, from 0.

    >>> order(components(grid("10102")))
    [0, 1, 2]
    """
    return list(range(len(objects.items)))


@primitive(5)
def shape(objects: Objects) -> Numbers:
    """Number of its shape, turns and mirrors alike, in the order in which shapes first appear.

    >>> shape(components(grid("110/000/030/030/000/404")))
    [0, 0, 1, 1]
    """
    seen: dict[tuple[tuple[int, ...], bytes], int] = {}
    return [seen.setdefault(_canonical_shape(item.mask), len(seen)) for item in objects.items]


def _canonical_shape(mask: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    """Returns a key that a mask's eight rotations and reflections share: the least of theirs."""
    images = [plane[::a, ::b] for plane in (mask, mask.T) for a in (1, -1) for b in (1, -1)]
    return min((image.shape, image.tobytes()) for image in images)
