"""Batches of views on canvases."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from arc_core.task import Task
from arc_core.tensors import TaskTensors
from hrm.data.batches import build_batch
from hrm.data.identities import Identities, draw_task_views, make_examples
from hrm.losses import IGNORED

Make = Callable[..., Task]

SIZES = [((3, 4), (2, 2)), ((5, 5), (5, 5)), ((1, 2), (6, 1))]


@pytest.mark.parametrize("side", [8, 30])
def test_batches_are_the_views_of_their_pairs(
    random_task: Make, naive_tokens: Callable[[np.ndarray, int, int, int], np.ndarray], side: int
) -> None:
    tasks = [random_task(SIZES, seed=seed) for seed in range(2)]
    tensors = TaskTensors.from_tasks(tasks)
    identities = Identities.from_task_ids(["a", "b"], 3, 0)
    examples, _ = make_examples(tensors, identities, 0)
    offset = torch.rand(len(examples), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batch = build_batch(tensors, identities, examples, side, 2, offset)
    for row, (identity, pair) in enumerate(zip(examples.identities, examples.pairs, strict=True)):
        task, view = tasks[pair // 3], draw_task_views("ab"[identity // 4], 3, 0)[identity % 4]
        example = (task.train + task.test)[pair % 3]
        assert example.output is not None
        grids = [view.apply(example.input), view.apply(example.output)]
        positions = batch.positions[min(row, len(batch.positions) - 1), 2:].reshape(side, side) - 2
        corner = (0, 0)
        if side == 30:
            room = [30 - max(grid.shape[axis] for grid in grids) for axis in range(2)]
            corner = tuple(int(offset[row, axis] * (room[axis] + 1)) for axis in range(2))  # type: ignore[assignment]
        else:
            assert int(positions[0, 0]) == 30 * int(offset[row, 0] * 23) + int(offset[row, 1] * 23)
        assert int(positions[1, 2] - positions[0, 0]) == 32
        expected = [naive_tokens(grid, side, *corner) for grid in grids]
        assert np.array_equal(batch.tokens[row].view(side, side), expected[0])
        labels = np.where(expected[1] == 0, IGNORED, expected[1].astype(np.int64))
        assert np.array_equal(batch.labels[row].view(side, side), labels)
        assert int(batch.identities[row]) == identity + 1
