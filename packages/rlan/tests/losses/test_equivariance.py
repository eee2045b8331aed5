import numpy as np
import pytest
import torch
from torch import Tensor

from arc_core.augment import View, dihedral
from arc_core.tensors import TaskTensors
from rlan.data.queries import Inputs, build_inputs, build_test_queries
from rlan.losses.equivariance import (
    answer_loss,
    delta_distance,
    equivariance_loss,
    magnitude_loss,
    nonidentity_elements,
    transform_queries,
    undo_transform,
)
from rlan.model.hyperlora import LowRankDelta
from rlan.model.recursive_solver import CLASSES
from rlan.model.rlan import Outputs, Rlan


def test_each_query_gets_every_element_but_the_identity_once() -> None:
    elements = nonidentity_elements(np.random.default_rng(0).random((50, 7)))
    assert elements.shape == (7, 50)
    assert (np.sort(elements, axis=0) == np.arange(1, 8)[:, None]).all()


def test_undoing_a_transform_restores_every_grid_within_its_rectangle() -> None:
    rng = np.random.default_rng(0)
    for element in range(8):
        for height, width in ((3, 5), (5, 2), (4, 4)):
            grid = rng.random((height, width)).astype(np.float32)
            transformed = dihedral(grid, element).copy()  # type: ignore[arg-type]  # of numbers
            cells = torch.zeros(1, 6, 6, 1)
            cells[0, : transformed.shape[0], : transformed.shape[1], 0] = torch.from_numpy(transformed)
            restored = undo_transform(cells, np.array([[height, width]]), np.array([element]))
            np.testing.assert_array_equal(restored[0, :height, :width, 0].numpy(), grid)


class Toy:
    """Answers each cell from its colour and predicts changes from the sum of the colours shown, which is equivariant;
    `broken` adds a term that depends on the orientation."""

    def __init__(self, broken: bool) -> None:
        self.broken = broken

    def predict_deltas(self, inputs: Inputs) -> dict[str, LowRankDelta]:
        amount = inputs.demos.float().sum((1, 2, 3, 4))[:, None, None] / 1000
        if self.broken:
            amount = amount + inputs.demos[:, 0, 0, 0, :3].float().sum(1)[:, None, None]
        return {"head": LowRankDelta(amount.expand(-1, 4, 2), torch.ones(len(amount), 2, 3))}

    def __call__(self, inputs: Inputs, adapt: bool = True) -> Outputs:
        logits = torch.nn.functional.one_hot(inputs.query.long(), CLASSES).float()
        if self.broken:
            logits = logits + torch.arange(logits.shape[1])[:, None, None] * torch.eye(CLASSES)[0]
        return Outputs(logits[:, None], None, None, None, self.predict_deltas(inputs))


@pytest.mark.parametrize("broken", [False, True])
def test_an_equivariant_predictor_has_no_loss_and_a_broken_one_has(tensors: TaskTensors, broken: bool) -> None:
    toy, queries = Toy(broken), build_test_queries(tensors, [0, 1, 2], 3, View(2))
    outputs = toy(build_inputs(tensors, queries, 8))
    elements = nonidentity_elements(np.random.default_rng(1).random((3, 7)))[:4]
    loss, metrics = equivariance_loss(toy, toy.predict_deltas, tensors, queries, outputs, elements)
    assert (loss.item() > 1e-3) == broken
    assert (metrics["equiv_delta_norm"] > 1e-3) == broken


def test_the_loss_is_positive_and_reaches_the_context_encoder(tensors: TaskTensors, hyperlora_model: Rlan) -> None:
    model, queries = hyperlora_model, build_test_queries(tensors, [0, 1, 2], 3, View())
    outputs = model(build_inputs(tensors, queries, 8))
    elements = nonidentity_elements(np.random.default_rng(1).random((3, 7)))[:4]
    loss, _ = equivariance_loss(model, model.predict_deltas, tensors, queries, outputs, elements)
    assert loss.item() > 0
    loss.backward()
    assert model.context is not None
    assert model.hyperlora is not None
    for module in (model.context, model.hyperlora):
        assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_transformed_queries_are_queries_in_the_composed_view(tensors: TaskTensors) -> None:
    queries = build_test_queries(tensors, [0, 1], 3, View(3))
    transformed = transform_queries(queries, np.array([1, 6]))
    one = build_inputs(tensors, queries, 8)
    other = build_inputs(tensors, transformed, 8)
    for row, element in enumerate((1, 6)):
        height, width = one.query_size[row].tolist()
        expected = dihedral(one.query[row, :height, :width].numpy(), element)
        assert other.query_size[row].tolist() == list(expected.shape)
        np.testing.assert_array_equal(other.query[row, : expected.shape[0], : expected.shape[1]].numpy(), expected)


def products(delta: LowRankDelta) -> Tensor:
    return (delta.down @ delta.up).flatten(1)


def test_magnitudes_and_distances_equal_those_of_the_products() -> None:
    one, other = ({"a": LowRankDelta(torch.randn(4, 6, 2), torch.randn(4, 2, 5))} for _ in range(2))
    norms = [products(delta["a"]).norm(dim=1) for delta in (one, other)]
    torch.testing.assert_close(magnitude_loss(one, other), (norms[0] - norms[1]).square().mean(), rtol=1e-3, atol=1e-4)
    expected = (products(one["a"]) - products(other["a"])).norm(dim=1).mean()
    torch.testing.assert_close(delta_distance(one, other), expected, rtol=1e-4, atol=1e-4)


def test_the_answer_loss_of_equal_answers_is_zero() -> None:
    logits, sizes = torch.randn(2, 6, 6, CLASSES), np.array([[6, 4], [3, 3]])
    assert answer_loss(logits, logits, sizes, np.zeros(2, dtype=np.int64)).item() == 0
