"""Leave-one-out and equivariance training."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from arc_core.augment import View, dihedral
from arc_core.task import Task
from arc_core.tensors import TaskTensors
from rlan.config import DataConfig, ModelConfig, TrainingConfig
from rlan.data.queries import Inputs, QuerySampler, build_inputs, build_targets, solving_queries
from rlan.losses.equivariance import (
    answer_loss,
    delta_distance,
    equivariance,
    magnitude_loss,
    other_elements,
    turn_back,
    turned_queries,
)
from rlan.losses.leave_one_out import leave_one_out, left_out_queries
from rlan.losses.objective import total_loss, training_batch
from rlan.model.hyperlora import LowRank, delta_metrics
from rlan.model.recursive_solver import CLASSES
from rlan.model.rlan import Outputs, Rlan

Make = Callable[..., Task]
CONFIG = ModelConfig(
    hidden_dim=16, num_heads=2, num_solver_steps=2, context_layers=1, spatial_downsample=3, use_hyperlora=True
)


@pytest.fixture
def tensors(random_task: Make) -> TaskTensors:
    """Tasks of 1, 2 and 3 demonstrations."""
    sizes = [((3, 4), (4, 3)), ((2, 5), (2, 5)), ((4, 4), (4, 4)), ((5, 2), (5, 2))]
    return TaskTensors.from_tasks([random_task(sizes[: 2 + count], seed=count) for count in range(3)])


def build() -> Rlan:
    torch.manual_seed(0)
    model = Rlan(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model


def test_tasks_with_too_few_pairs_are_skipped_and_counted(tensors: TaskTensors) -> None:
    queries = solving_queries(tensors, [0, 1, 2], 3, View())
    draws = np.array([0.9, 0.0, 0.99])
    for least, skipped, asked in ((2, 1 / 3, [3, 6 + 1]), (3, 2 / 3, [7])):
        left, share = left_out_queries(tensors, queries, least, draws)
        assert share == pytest.approx(skipped)
        assert left is not None
        assert len(left) == len(asked)
    left, share = left_out_queries(tensors, queries.rows(np.array([0])), 2, draws)
    assert (left, share) == (None, 1.0)


def test_the_left_out_pair_and_the_old_query_are_not_shown(tensors: TaskTensors) -> None:
    queries = solving_queries(tensors, [1, 2], 3, View(5))
    for draw in (0.0, 0.4, 0.99):
        left, _ = left_out_queries(tensors, queries, 2, np.full(2, draw))
        assert left is not None
        for row in range(2):
            before, after = set(queries.demos[row].tolist()) - {-1}, set(left.demos[row].tolist()) - {-1}
            assert left.pairs[row] in before
            assert after == before - {int(left.pairs[row])}


def test_the_left_out_answer_cannot_be_seen(tensors: TaskTensors) -> None:
    """Inputs built from tasks whose left-out outputs are different are equal."""
    queries = solving_queries(tensors, [2], 3, View())
    left, _ = left_out_queries(tensors, queries, 2, np.array([0.5]))
    assert left is not None
    side = int(left.canvases(tensors).max())
    before = build_inputs(tensors, left, side)
    grid = 2 * int(left.pairs[0]) + 1
    rows = tensors.rows.clone()
    start, height = tensors.first_row[grid, 0], tensors.sizes[grid, 0]
    rows[start : start + height] = 3
    after = build_inputs(replace(tensors, rows=rows), left, side)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_left_out_loss_reaches_the_predictor_and_its_gain_is_measured(tensors: TaskTensors) -> None:
    model = build()
    left, _ = left_out_queries(tensors, solving_queries(tensors, [1, 2], 3, View()), 2, np.zeros(2))
    assert left is not None
    found = leave_one_out(model, tensors, left, TrainingConfig(), with_gain=True)
    found.loss.backward()
    assert model.hyperlora is not None
    assert all(p.grad is not None and p.grad.any() for p in model.hyperlora.parameters())
    assert {"loo_loss", "loo_accuracy", "loo_exact", "loo_gain"} == found.metrics.keys()
    assert found.metrics["loo_gain"] != 0


def test_a_perfect_answer_has_accuracy_one(tensors: TaskTensors) -> None:
    left, _ = left_out_queries(tensors, solving_queries(tensors, [1, 2], 3, View()), 2, np.zeros(2))
    assert left is not None

    def knows(inputs: Inputs, adapt: bool = True) -> Outputs:
        cells, _ = build_targets(tensors, left, inputs.query.shape[-1])
        logits = torch.nn.functional.one_hot(cells.long(), CLASSES)[:, None] * 20.0
        return Outputs(logits, None, None, None, {})

    metrics = leave_one_out(knows, tensors, left, TrainingConfig()).metrics
    assert metrics["loo_accuracy"] == metrics["loo_exact"] == 1.0


def test_copies_are_turned_differently_and_never_by_the_identity() -> None:
    elements = other_elements(np.random.default_rng(0).random((50, 7)))
    assert elements.shape == (7, 50)
    assert (np.sort(elements, axis=0) == np.arange(1, 8)[:, None]).all()


def test_turning_back_undoes_every_element_within_its_rectangle() -> None:
    rng = np.random.default_rng(0)
    for element in range(8):
        for height, width in ((3, 5), (5, 2), (4, 4)):
            grid = rng.random((height, width)).astype(np.float32)
            turned = dihedral(grid, element)  # type: ignore[arg-type]  # of numbers
            cells = torch.zeros(1, 6, 6, 1)
            cells[0, : turned.shape[0], : turned.shape[1], 0] = torch.from_numpy(turned.copy())
            back = turn_back(cells, np.array([[height, width]]), np.array([element]))
            np.testing.assert_array_equal(back[0, :height, :width, 0].numpy(), grid)


class Toy:
    """Answers each cell from its own colour and changes by the number of colours shown; `broken` adds the row."""

    def __init__(self, broken: bool) -> None:
        self.broken = broken

    def deltas(self, inputs: Inputs) -> dict[str, LowRank]:
        amount = inputs.demos.float().sum((1, 2, 3, 4))[:, None, None] / 1000
        if self.broken:
            amount = amount + inputs.demos[:, 0, 0, 0, :3].float().sum(1)[:, None, None]
        return {"head": LowRank(amount.expand(-1, 4, 2), torch.ones(len(amount), 2, 3))}

    def __call__(self, inputs: Inputs, adapt: bool = True) -> Outputs:
        logits = torch.nn.functional.one_hot(inputs.query.long(), CLASSES).float()
        if self.broken:
            logits = logits + torch.arange(logits.shape[1])[:, None, None] * torch.eye(CLASSES)[0]
        return Outputs(logits[:, None], None, None, None, self.deltas(inputs))


@pytest.mark.parametrize("broken", [False, True])
def test_an_equivariant_predictor_has_no_loss_and_a_broken_one_has(tensors: TaskTensors, broken: bool) -> None:
    toy, queries = Toy(broken), solving_queries(tensors, [0, 1, 2], 3, View(2))
    plain = toy(build_inputs(tensors, queries, 8))
    elements = other_elements(np.random.default_rng(1).random((3, 7)))[:4]
    loss, metrics = equivariance(toy, toy.deltas, tensors, queries, plain, elements)
    assert (loss.item() > 1e-3) == broken
    assert (metrics["equiv_delta_norm"] > 1e-3) == broken


def test_equivariance_is_positive_at_the_start_and_reaches_the_context_encoder(tensors: TaskTensors) -> None:
    model, queries = build(), solving_queries(tensors, [0, 1, 2], 3, View())
    plain = model(build_inputs(tensors, queries, 8))
    elements = other_elements(np.random.default_rng(1).random((3, 7)))[:4]
    loss, _ = equivariance(model, model.deltas, tensors, queries, plain, elements)
    assert loss.item() > 0
    loss.backward()
    assert model.context is not None
    assert model.hyperlora is not None
    for module in (model.context, model.hyperlora):
        assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_turned_queries_are_the_composed_views(tensors: TaskTensors) -> None:
    queries = solving_queries(tensors, [0, 1], 3, View(3))
    again = turned_queries(queries, np.array([1, 6]))
    one = build_inputs(tensors, queries, 8)
    other = build_inputs(tensors, again, 8)
    for row, element in enumerate((1, 6)):
        height, width = one.query_size[row].tolist()
        expected = dihedral(one.query[row, :height, :width].numpy(), element)
        assert other.query_size[row].tolist() == list(expected.shape)
        np.testing.assert_array_equal(other.query[row, : expected.shape[0], : expected.shape[1]].numpy(), expected)


def products(delta: LowRank) -> Tensor:
    return (delta.down @ delta.up).flatten(1)


def test_magnitudes_and_distances_equal_those_of_the_products() -> None:
    one, other = ({"a": LowRank(torch.randn(4, 6, 2), torch.randn(4, 2, 5))} for _ in range(2))
    norms = [products(delta["a"]).norm(dim=1) for delta in (one, other)]
    torch.testing.assert_close(magnitude_loss(one, other), (norms[0] - norms[1]).square().mean(), rtol=1e-3, atol=1e-4)
    expected = (products(one["a"]) - products(other["a"])).norm(dim=1).mean()
    torch.testing.assert_close(delta_distance(one, other), expected, rtol=1e-4, atol=1e-4)


def test_the_answer_loss_of_equal_answers_is_zero() -> None:
    logits, sizes = torch.randn(2, 6, 6, CLASSES), np.array([[6, 4], [3, 3]])
    assert answer_loss(logits, logits, sizes, np.zeros(2, dtype=np.int64)).item() == 0


def test_metrics_of_no_change_say_that_there_is_none() -> None:
    zero = {"a": LowRank(torch.randn(3, 6, 2), torch.zeros(3, 2, 5))}
    assert delta_metrics(zero)["lora_diversity"] == 0.0
    assert delta_metrics({}) == {}
    same = {"a": LowRank(torch.ones(3, 6, 2), torch.ones(3, 2, 5))}
    assert delta_metrics(same)["lora_diversity"] == pytest.approx(0.0, abs=1e-5)


def test_the_task_loss_alone_reaches_the_predictor_and_training_tells_tasks_apart(tensors: TaskTensors) -> None:
    torch.manual_seed(0)
    model = Rlan(CONFIG)
    queries = solving_queries(tensors, [0, 1, 2], 3, View())
    inputs, targets = training_batch(tensors, QuerySampler(tensors, DataConfig(), 6, 0).epoch(0).rows(np.arange(3)))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    assert model.hyperlora is not None
    config = TrainingConfig(loss_mode="cross_entropy")
    assert delta_metrics(model.deltas(build_inputs(tensors, queries, 6)))["lora_diversity"] == 0
    for _ in range(10):
        optimizer.zero_grad()
        total_loss(model(inputs), targets, inputs.live, inputs.query_size, config).task.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.hyperlora.parameters())
    metrics = delta_metrics(model.deltas(build_inputs(tensors, queries, 6)))
    assert metrics["lora_diversity"] > 0
    assert all(metrics[f"lora_magnitude_{name}"] > 1e-3 for name in ("gru_reset", "gru_candidate", "output_head"))
