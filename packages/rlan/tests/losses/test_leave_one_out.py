from dataclasses import replace

import numpy as np
import pytest
import torch

from arc_core.augment import View
from arc_core.tensors import TaskTensors
from rlan.config import TrainingConfig
from rlan.data.queries import Inputs, build_inputs, build_targets, build_test_queries
from rlan.losses.leave_one_out import build_leave_one_out_queries, leave_one_out_loss
from rlan.model.recursive_solver import CLASSES
from rlan.model.rlan import Outputs, Rlan


def test_tasks_with_too_few_pairs_are_skipped_and_counted(tensors: TaskTensors) -> None:
    queries = build_test_queries(tensors, [0, 1, 2], 3, View())
    draws = np.array([0.9, 0.0, 0.99])
    for min_pairs, skipped, pairs in ((2, 1 / 3, [2, 7]), (3, 2 / 3, [7])):
        loo_queries, skipped_ratio = build_leave_one_out_queries(tensors, queries, min_pairs, draws)
        assert skipped_ratio == pytest.approx(skipped)
        assert loo_queries is not None
        assert loo_queries.pairs.tolist() == pairs
    loo_queries, skipped_ratio = build_leave_one_out_queries(tensors, queries.select(np.array([0])), 2, draws)
    assert (loo_queries, skipped_ratio) == (None, 1.0)


def test_the_left_out_pair_and_the_original_query_are_not_shown(tensors: TaskTensors) -> None:
    queries = build_test_queries(tensors, [1, 2], 3, View(5))
    for draw in (0.0, 0.4, 0.99):
        loo_queries, _ = build_leave_one_out_queries(tensors, queries, 2, np.full(2, draw))
        assert loo_queries is not None
        for row in range(2):
            before, after = set(queries.demos[row].tolist()) - {-1}, set(loo_queries.demos[row].tolist()) - {-1}
            assert loo_queries.pairs[row] in before
            assert after == before - {int(loo_queries.pairs[row])}


def test_the_left_out_answer_cannot_be_seen(tensors: TaskTensors) -> None:
    """Inputs are equal when they are built from tasks that differ in the left-out output alone."""
    queries = build_test_queries(tensors, [2], 3, View())
    loo_queries, _ = build_leave_one_out_queries(tensors, queries, 2, np.array([0.5]))
    assert loo_queries is not None
    side = int(loo_queries.canvas_sides(tensors).max())
    before = build_inputs(tensors, loo_queries, side)
    grid = 2 * int(loo_queries.pairs[0]) + 1
    rows = tensors.rows.clone()
    start, height = tensors.first_row[grid, 0], tensors.sizes[grid, 0]
    rows[start : start + height] = 3
    after = build_inputs(replace(tensors, rows=rows), loo_queries, side)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_loss_reaches_hyperlora_and_its_gain_is_measured(tensors: TaskTensors, hyperlora_model: Rlan) -> None:
    queries = build_test_queries(tensors, [1, 2], 3, View())
    loo_queries, _ = build_leave_one_out_queries(tensors, queries, 2, np.zeros(2))
    assert loo_queries is not None
    loss, metrics = leave_one_out_loss(hyperlora_model, tensors, loo_queries, TrainingConfig(), with_gain=True)
    loss.backward()
    assert hyperlora_model.hyperlora is not None
    assert all(p.grad is not None and p.grad.any() for p in hyperlora_model.hyperlora.parameters())
    assert {"loo_loss", "loo_accuracy", "loo_exact", "loo_gain"} == metrics.keys()
    assert metrics["loo_gain"] != 0


def test_a_perfect_answer_has_accuracy_one(tensors: TaskTensors) -> None:
    queries = build_test_queries(tensors, [1, 2], 3, View())
    loo_queries, _ = build_leave_one_out_queries(tensors, queries, 2, np.zeros(2))
    assert loo_queries is not None

    def oracle(inputs: Inputs, adapt: bool = True) -> Outputs:
        cells, _ = build_targets(tensors, loo_queries, inputs.query.shape[-1])
        logits = torch.nn.functional.one_hot(cells.long(), CLASSES)[:, None] * 20.0
        return Outputs(logits, None, None, None, {})

    _, metrics = leave_one_out_loss(oracle, tensors, loo_queries, TrainingConfig())
    assert metrics["loo_accuracy"] == metrics["loo_exact"] == 1.0
