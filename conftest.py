"""Fixtures that the tests of several packages share."""

import os
from collections.abc import Callable

import numpy as np
import pytest

from arc_core.task import Pair, Task

Sizes = list[tuple[tuple[int, int], tuple[int, int]]]


def pytest_configure(config: pytest.Config) -> None:
    """Limits each of several test processes to one thread, since together they already use all cores."""
    if config.getoption("numprocesses", 0):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def random_task() -> Callable[..., Task]:
    """Returns a function that builds a task of random cells from the (input, output) sizes of its pairs.

    The last `tests` pairs are test pairs.
    """

    def build(sizes: Sizes, tests: int = 1, seed: int = 0, task_id: str = "made") -> Task:
        rng = np.random.default_rng(seed)
        pairs = []
        for source, target in sizes:
            grids = [rng.integers(10, size=size).astype(np.uint8) for size in (source, target)]
            for grid in grids:
                grid.flags.writeable = False
            pairs.append(Pair(grids[0], grids[1]))
        return Task(task_id, tuple(pairs[:-tests]), tuple(pairs[-tests:]))

    return build
