import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from arc_core.stablemax import log_stablemax
from arc_core.tensors import OUTSIDE
from rlan.config import LossMode
from rlan.losses.objective import (
    Targets,
    cell_weights,
    centroid_diversity_loss,
    class_weights,
    entropy_loss,
    make_targets,
    predicate_loss,
    sparsity_loss,
    task_loss,
)
from rlan.model.saliency import Clues


def targets_of(grids: list[list[list[int]]], side: int) -> Targets:
    cells = torch.full((len(grids), side, side), OUTSIDE, dtype=torch.uint8)
    for row, grid in enumerate(grids):
        cells[row, : len(grid), : len(grid[0])] = torch.tensor(grid)
    return make_targets(cells, torch.tensor([[len(grid), len(grid[0])] for grid in grids]))


TARGETS = targets_of([[[3, 3, 3, 1], [3, 2, 3, 3]], [[5]]], 6)
EXTENT = torch.tensor([[5, 6], [3, 3]])


def test_background_is_each_answers_own_most_common_color() -> None:
    assert TARGETS.background.tolist() == [3, 5]


def test_weights_cover_answer_ring_and_rest_of_the_canvas() -> None:
    weights = cell_weights(TARGETS, EXTENT, 0.1)
    expected = torch.zeros(2, 6, 6)
    expected[0, :5, :6], expected[0, :3, :5] = 0.1, 1.0
    expected[1, :3, :3], expected[1, :2, :2] = 0.1, 1.0
    torch.testing.assert_close(weights, expected)


def naive_loss(logits: Tensor, mode: LossMode, alpha: float, gamma: float) -> list[list[float]]:
    """Cell by cell in float64, from the formulas."""
    weights = cell_weights(TARGETS, EXTENT, 0.1).double()
    scale = class_weights(TARGETS, weights) if mode == "weighted_stablemax" else torch.ones_like(weights)
    result = []
    for b in range(2):
        row = []
        for t in range(logits.shape[1]):
            total = norm = 0.0
            for i, j in np.ndindex(6, 6):
                x = logits[b, t, i, j].double()
                s = torch.where(x >= 0, x + 1, 1 / (1 - x)) if "stablemax" in mode else x.exp()
                p = float(s[int(TARGETS.cells[b, i, j])] / s.sum())
                loss = -np.log(p)
                if "focal" in mode:
                    is_background = int(TARGETS.cells[b, i, j]) == int(TARGETS.background[b])
                    loss *= ((1 - alpha) if is_background else alpha) * (1 - p) ** gamma
                weight = float(weights[b, i, j] * scale[b, i, j])
                total, norm = total + weight * loss, norm + weight
            row.append(total / norm)
        result.append(row)
    return result


@pytest.mark.parametrize("mode", ["cross_entropy", "focal", "stablemax", "weighted_stablemax", "focal_stablemax"])
def test_every_loss_equals_a_loop_over_cells(mode: LossMode) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 6, 6, 11) * 3
    loss = task_loss(logits, TARGETS, cell_weights(TARGETS, EXTENT, 0.1), mode, 0.7, 2.0)
    np.testing.assert_allclose(loss.numpy(), naive_loss(logits, mode, 0.7, 2.0), rtol=1e-4)


def test_cross_entropy_equals_torch() -> None:
    logits = torch.randn(2, 1, 6, 6, 11)
    weights = cell_weights(TARGETS, EXTENT, 0.0)
    loss = task_loss(logits, TARGETS, weights, "cross_entropy", 0.5, 2.0)
    each = functional.cross_entropy(logits[:, 0].permute(0, 3, 1, 2), TARGETS.cells.long(), reduction="none")
    torch.testing.assert_close(loss[:, 0], (each * weights).sum((1, 2)) / weights.sum((1, 2)))


def test_a_small_answer_weighs_as_much_as_a_large_one() -> None:
    logits = torch.zeros(2, 1, 6, 6, 11)
    loss = task_loss(logits, TARGETS, cell_weights(TARGETS, EXTENT, 0.1), "cross_entropy", 0.5, 2.0)
    torch.testing.assert_close(loss, torch.full((2, 1), float(np.log(11))))


def test_stablemax_is_a_distribution_with_finite_gradients() -> None:
    logits = torch.tensor([[-1e4, -3.0, 0.0, 2.0, 1e4]], requires_grad=True)
    log_probabilities = log_stablemax(logits)
    torch.testing.assert_close(log_probabilities.exp().sum(), torch.tensor(1.0))
    log_probabilities[0, 0].backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_class_weights_are_capped_inverse_frequencies() -> None:
    weights = class_weights(TARGETS, cell_weights(TARGETS, EXTENT, 0.1))
    # 39 cells of 5 classes: outside 30, colour 3 six times, colours 1, 2 and 5 once.
    assert weights[0, 0, 0].item() == pytest.approx(39 / 5 / 6)
    assert weights[0, 0, 3].item() == 5.0  # 7.8, capped as a colour
    assert weights[1, 0, 0].item() == 2.0  # 7.8, capped as background


def make_clues(centroids: list[list[float]], usage: list[float]) -> Clues:
    count = len(usage)
    zeros = torch.zeros(1, count)
    entropy = torch.arange(1.0, count + 1)[None]
    return Clues(torch.zeros(1, count, 9, 9), torch.tensor([centroids]), entropy, zeros, torch.tensor([usage]))


def test_clue_losses_equal_their_formulas() -> None:
    clues = make_clues([[0, 0], [0, 1], [8, 8]], [1.0, 0.5, 0.25])
    assert entropy_loss(clues).item() == pytest.approx((1 + 0.5 * 2 + 0.25 * 3) / 1.75)
    assert sparsity_loss(clues, 2.5, 0.02).item() == pytest.approx(0.75 + 0.02 * 1.75)
    assert sparsity_loss(clues, 1.0, 0.02).item() == pytest.approx(0.02 * 1.75)
    pairs = 1 * 0.5 + 1 * 0.25 + 0.5 * 0.25
    sizes = torch.tensor([[9, 9]])
    assert centroid_diversity_loss(clues, sizes).item() == pytest.approx(0.5 * 0.5 / pairs, abs=1e-3)
    apart = make_clues([[0, 0], [0, 4], [8, 8]], [1.0, 1.0, 1.0])
    assert centroid_diversity_loss(apart, sizes).item() == 0
    together = make_clues([[1, 1]] * 3, [1.0, 1.0, 1.0])
    assert centroid_diversity_loss(together, sizes).item() == pytest.approx(1, abs=1e-2)
    assert centroid_diversity_loss(make_clues([[1, 1]], [1.0]), sizes).item() == 0


def test_predicate_correlation_equals_numpy() -> None:
    predicates = torch.rand(40, 6)
    correlation = np.corrcoef(predicates.numpy().T)
    expected = (correlation[~np.eye(6, dtype=bool)] ** 2).mean()
    assert predicate_loss(predicates).item() == pytest.approx(expected, rel=1e-3)
    assert predicate_loss(predicates[:1]).item() == 0
