"""The token sequence of a grid, written out, for the tests of this folder."""

from collections.abc import Callable

import numpy as np
import pytest

from hrm.data.tokens import END


@pytest.fixture
def naive_tokens() -> Callable[[np.ndarray, int, int, int], np.ndarray]:
    """The published builder's sequence of a grid on a canvas of a side: colours + 2 at (row, column), END around."""

    def encode(grid: np.ndarray, side: int, row: int, column: int) -> np.ndarray:
        tokens = np.zeros((side, side), dtype=np.uint8)
        height, width = grid.shape
        tokens[row : row + height, column : column + width] = grid + 2
        if row + height < side:
            tokens[row + height, column : column + width] = END
        if column + width < side:
            tokens[row : row + height, column + width] = END
        return tokens

    return encode
