"""Random input grids for synthetic tasks, in styles on which different rules are visible."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from jepa_hrl.dsl.types import Array

# Draws a grid: generator, height, width, colours.
Style = Callable[[np.random.Generator, int, int, list[int]], Array]


def _draw_cells(rng: np.random.Generator, height: int, width: int, colors: list[int]) -> Array:
    """Draws single cells of random colours."""
    share = rng.uniform(0.15, 0.5)
    cells = rng.choice(np.array(colors, dtype=np.uint8), (height, width))
    return cells * (rng.random((height, width)) < share)


def _draw_boxes(rng: np.random.Generator, height: int, width: int, colors: list[int]) -> Array:
    """Draws up to five rectangles that do not touch each other, some of them hollow."""
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


def _draw_blobs(rng: np.random.Generator, height: int, width: int, colors: list[int]) -> Array:
    """Draws irregular connected shapes of one colour each."""
    labels, count = ndimage.label(ndimage.uniform_filter(rng.random((height, width)), 2) > 0.53)
    label_colors = np.concatenate([[0], rng.choice(colors, count)]).astype(np.uint8)
    return np.asarray(label_colors[labels])


def _draw_sprite(rng: np.random.Generator, height: int, width: int, colors: list[int]) -> Array:
    """Draws one dense many-coloured figure at a random position."""
    grid = np.zeros((height, width), dtype=np.uint8)
    tall, wide = (int(rng.integers((side + 1) // 2, side + 1)) for side in (height, width))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    cells = rng.choice(np.array(colors, dtype=np.uint8), (tall, wide)) * (rng.random((tall, wide)) < 0.75)
    grid[top : top + tall, left : left + wide] = cells
    return grid


STYLES: tuple[Style, ...] = (_draw_cells, _draw_boxes, _draw_blobs, _draw_sprite)
