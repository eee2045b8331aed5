"""Grids to tokens and back."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from arc_core.tensors import OUTSIDE
from hrm.data.tokens import decode_sizes, encode, make_labels, shift_tokens
from hrm.losses import IGNORED


def canvas_with(grid: np.ndarray, side: int) -> torch.Tensor:
    canvas = np.full((side, side), OUTSIDE, dtype=np.uint8)
    canvas[: grid.shape[0], : grid.shape[1]] = grid
    return torch.from_numpy(canvas)[None]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 2), (8, 8)])
def test_the_end_ring_and_its_inverse(
    shape: tuple[int, int], naive_tokens: Callable[[np.ndarray, int, int, int], np.ndarray]
) -> None:
    grid = np.random.default_rng(0).integers(10, size=shape).astype(np.uint8)
    tokens = encode(canvas_with(grid, 8), torch.tensor([shape]))
    assert np.array_equal(tokens[0], naive_tokens(grid, 8, 0, 0))
    assert decode_sizes(tokens).tolist() == [list(shape)]
    shift = (8 - shape[0], max(0, 7 - shape[1]))
    shifted = shift_tokens(tokens, torch.tensor([shift]))
    assert np.array_equal(shifted[0], naive_tokens(grid, 8, *shift))


def naive_crop(grid: np.ndarray) -> tuple[int, int]:
    """The published evaluator's loop."""
    best, size, columns = 0, (0, 0), grid.shape[1]
    for rows in range(1, grid.shape[0] + 1):
        for c in range(1, columns + 1):
            if grid[rows - 1, c - 1] < 2:
                columns = c - 1
                break
        if rows * columns > best:
            best, size = rows * columns, (rows, columns)
    return size


def test_decoding_equals_the_published_loop_on_broken_answers() -> None:
    rng = np.random.default_rng(1)
    tokens = np.where(rng.random((300, 6, 6)) < 0.25, rng.integers(2, size=(300, 6, 6)), 5)
    sizes = decode_sizes(torch.from_numpy(tokens)).tolist()
    assert sizes == [list(naive_crop(grid)) for grid in tokens]
    assert decode_sizes(torch.zeros(1, 4, 4, dtype=torch.int64)).tolist() == [[0, 0]]


def test_padding_is_no_label() -> None:
    assert make_labels(torch.tensor([[0, 1, 2, 11]])).tolist() == [[IGNORED, 1, 2, 11]]
