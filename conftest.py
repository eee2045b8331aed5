"""What tests of several packages share."""

import os
from collections.abc import Callable

import numpy as np
import pytest

from arc_core.task import Pair, Task

Sizes = list[tuple[tuple[int, int], tuple[int, int]]]


def pytest_configure(config: pytest.Config) -> None:
    """One thread for each of several test processes: as many as cores, each with as many threads, would starve."""
    if config.getoption("numprocesses", 0):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def random_task() -> Callable[..., Task]:
    """Builds tasks of random cells: sizes of (input, output) of each pair, the last `tests` pairs being tests."""

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
