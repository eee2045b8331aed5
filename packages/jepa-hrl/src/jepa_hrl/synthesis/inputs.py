"""Grids for synthetic tasks, in a few styles in which rules show."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from jepa_hrl.dsl.types import Array

Style = Callable[[np.random.Generator, int, int, list[int]], Array]


def _sprinkled(rng: np.random.Generator, height: int, width: int, colors: list[int]) -> Array:
    """Single cells here and there."""
    share = rng.uniform(0.15, 0.5)
    cells = rng.choice(np.array(colors, dtype=np.uint8), (height, width))
    return cells * (rng.random((height, width)) < share)


def _boxes(rng: np.random.Generator, height: int, width: int, colors: list[int]) -> Array:
    """Rectangles, some hollow, apart from each other where there is room."""
    grid = np.zeros((height, width), dtype=np.uint8)
    for _ in range(int(rng.integers(2, 6))):
        tall, wide = (int(rng.integers(1, max(side // 2, 2) + 1)) for side in (height, width))
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        around = grid[max(top - 1, 0) : top + tall + 1, max(left - 1, 0) : left + wide + 1]
        if around.any():
            continue
        grid[top : top + tall, left : left + wide] = rng.choice(colors)
        if min(tall, wide) > 2 and rng.random() < 0.5:
            grid[top + 1 : top + tall - 1, left + 1 : left + wide - 1] = 0
    return grid


def _blots(rng: np.random.Generator, height: int, width: int, colors: list[int]) -> Array:
    """Connected shapes of one colour each."""
    labels, number = ndimage.label(ndimage.uniform_filter(rng.random((height, width)), 2) > 0.53)
    names = np.concatenate([[0], rng.choice(colors, number)]).astype(np.uint8)
    return np.asarray(names[labels])


def _sprite(rng: np.random.Generator, height: int, width: int, colors: list[int]) -> Array:
    """One dense many-coloured figure with a margin around it."""
    grid = np.zeros((height, width), dtype=np.uint8)
    tall, wide = (int(rng.integers((side + 1) // 2, side + 1)) for side in (height, width))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    cells = rng.choice(np.array(colors, dtype=np.uint8), (tall, wide)) * (rng.random((tall, wide)) < 0.75)
    grid[top : top + tall, left : left + wide] = cells
    return grid


STYLES: tuple[Style, ...] = (_sprinkled, _boxes, _blots, _sprite)
