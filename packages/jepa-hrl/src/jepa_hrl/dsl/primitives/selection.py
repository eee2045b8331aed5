"""Choosing among objects by a measure, and drawing what was chosen."""

import numpy as np

from jepa_hrl.dsl.primitive import primitive
from jepa_hrl.dsl.types import (
    NOTHING,
    SEVERAL,
    Array,
    Field,
    Measure,
    Object,
    Objects,
    Refusal,
)


def _select_one(objects: Objects, flags: list[bool]) -> Object | Refusal:
    """Returns the only object whose flag is set; refuses if there is none or more than one."""
    if flags.count(True) != 1:
        return SEVERAL if any(flags) else NOTHING
    return objects.items[flags.index(True)]


def _select_some(objects: Objects, flags: list[bool]) -> Objects | Refusal:
    """Returns the objects whose flags are set; refuses if that is none or all of them."""
    kept = tuple(item for item, flag in zip(objects.items, flags, strict=True) if flag)
    return Objects(kept) if kept and len(kept) < len(flags) else NOTHING


@primitive(2)
def pick_max(measure: Measure, objects: Objects) -> Object | Refusal:
    """The one of `objects` with the greatest `measure`.

    >>> text(pick_max(size, components(grid("110/002"))))
    '11'
    """
    numbers = measure(objects)
    return _select_one(objects, [number == max(numbers) for number in numbers])


@primitive(2.5)
def pick_min(measure: Measure, objects: Objects) -> Object | Refusal:
    """The one of `objects` with the least `measure`.

    >>> text(pick_min(size, components(grid("110/002"))))
    '2'
    """
    numbers = measure(objects)
    return _select_one(objects, [number == min(numbers) for number in numbers])


@primitive(3)
def pick_odd(measure: Measure, objects: Objects) -> Object | Refusal:
    """The one of `objects` that shares its `measure` with no other, while others do.

    >>> text(pick_odd(size, components(grid("1020/0003/0003"))))
    '3/3'
    """
    numbers = measure(objects)
    return _select_one(objects, [numbers.count(n) == 1 for n in numbers]) if len(numbers) > 2 else NOTHING


@primitive(4)
def keep_max(measure: Measure, objects: Objects) -> Objects | Refusal:
    """Those of `objects` with the greatest `measure`.

    >>> len(keep_max(size, components(grid("11020/00003"))).items)
    1
    """
    numbers = measure(objects)
    return _select_some(objects, [number == max(numbers) for number in numbers])


@primitive(5)
def keep_min(measure: Measure, objects: Objects) -> Objects | Refusal:
    """Those of `objects` with the least `measure`.

    >>> len(keep_min(size, components(grid("11020/00003"))).items)
    2
    """
    numbers = measure(objects)
    return _select_some(objects, [number == min(numbers) for number in numbers])


@primitive(4)
def keep_several(measure: Measure, objects: Objects) -> Objects | Refusal:
    """Those of `objects` whose `measure` is more than one.

    >>> len(keep_several(size, components(grid("11020/00003"))).items)
    1
    """
    return _select_some(objects, [number > 1 for number in measure(objects)])


@primitive(4)
def keep_with(measure: Measure, objects: Objects) -> Objects | Refusal:
    """Those of `objects` whose `measure` is not zero.

    >>> len(keep_with(touches_border, components(grid("100/020/000"))).items)
    1
    """
    return _select_some(objects, [number != 0 for number in measure(objects)])


@primitive(5)
def keep_without(measure: Measure, objects: Objects) -> Objects | Refusal:
    """Those of `objects` whose `measure` is zero.

    >>> text(draw(keep_without(touches_border, components(grid("100/020/000")))))
    '000/020/000'
    """
    return _select_some(objects, [number == 0 for number in measure(objects)])


@primitive(4)
def order_by(measure: Measure, objects: Objects) -> Objects | Refusal:
    """`objects` in the order of `measure`, least first.

    >>> text(stack_across(order_by(size, color_layers(grid("112/222")))))
    'the sizes do not agree'
    """
    numbers = measure(objects)
    ranked = sorted(range(len(numbers)), key=numbers.__getitem__)
    return Objects(tuple(objects.items[index] for index in ranked)) if len(numbers) > 1 else NOTHING


@primitive(5)
def reverse_order(objects: Objects) -> Objects | Refusal:
    """`objects` in the opposite order.

    >>> text(first(reverse_order(components(grid("102")))))
    '2'
    """
    return Objects(objects.items[::-1]) if len(objects.items) > 1 else NOTHING


@primitive(3)
def mark(measure: Measure, objects: Objects) -> Field:
    """The cells of `objects`, each with its object's `measure` plus one.

    >>> mark(size, components(grid("110/002"))).tolist()
    [[3, 3, 0], [0, 0, 2]]
    """
    return mark_cells(objects, [min(number + 1, 255) for number in measure(objects)])


@primitive(4)
def mark_rank(measure: Measure, objects: Objects) -> Field:
    """The cells of `objects`, each with its object's rank by `measure`, the greatest first.

    >>> mark_rank(size, components(grid("110/002"))).tolist()
    [[1, 1, 0], [0, 0, 2]]
    """
    numbers = measure(objects)
    ranks = {number: rank for rank, number in enumerate(sorted(set(numbers), reverse=True), 1)}
    return mark_cells(objects, [ranks[number] for number in numbers])


@primitive(5)
def mark_extreme(measure: Measure, objects: Objects) -> Field:
    """The cells of `objects`: 2 where `measure` is greatest, 3 where it is least, 1 elsewhere.

    >>> mark_extreme(size, components(grid("110/002"))).tolist()
    [[2, 2, 0], [0, 0, 3]]
    """
    numbers = measure(objects)
    return mark_cells(objects, [2 if n == max(numbers) else 3 if n == min(numbers) else 1 for n in numbers])


def mark_cells(objects: Objects, numbers: list[int]) -> Array:
    """(H, W) uint8: writes each object's number to its cells, 0 elsewhere."""
    field = np.zeros(objects.source.shape, dtype=np.uint8)
    for item, number in zip(objects.items, numbers, strict=True):
        window(field, item)[item.mask] = number
    return field


def window(canvas: Array, item: Object) -> Array:
    """Returns a view of the part of a canvas that an object's box covers."""
    return canvas[item.top : item.top + item.mask.shape[0], item.left : item.left + item.mask.shape[1]]


@primitive(4)
def first(objects: Objects) -> Object:
    """The first of `objects`.

    >>> text(first(components(grid("102"))))
    '1'
    """
    return objects.items[0]


@primitive(5)
def second(objects: Objects) -> Object | Refusal:
    """The second of `objects`.

    >>> text(second(components(grid("102"))))
    '2'
    """
    return objects.items[1] if len(objects.items) > 1 else NOTHING


@primitive(6)
def third(objects: Objects) -> Object | Refusal:
    """The third of `objects`.

    >>> text(third(components(grid("10203"))))
    '3'
    """
    return objects.items[2] if len(objects.items) > 2 else NOTHING


@primitive(5)
def last(objects: Objects) -> Object:
    """The last of `objects`.

    >>> text(last(components(grid("102"))))
    '2'
    """
    return objects.items[-1]
