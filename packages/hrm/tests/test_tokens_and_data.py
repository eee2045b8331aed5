"""Tokens, identities, streams and optimisers."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from arc_core.augment import View
from arc_core.task import Task
from arc_core.tensors import OUTSIDE, TaskTensors
from hrm.carry_stream import Stream
from hrm.config import TrainingConfig
from hrm.data.batches import build_batch, canvas_of
from hrm.data.identities import Examples, Identities, make_examples, task_views
from hrm.data.tokens import END, decoded_sizes, encode, labels_of, moved
from hrm.losses import IGNORED
from hrm.optimizers import AdamAtan2, make_optimizers, rate_factor

Make = Callable[..., Task]
SIZES = [((3, 4), (2, 2)), ((5, 5), (5, 5)), ((1, 2), (6, 1))]


@pytest.fixture
def tensors(random_task: Make) -> TaskTensors:
    return TaskTensors.from_tasks([random_task(SIZES, seed=seed) for seed in range(2)])


def canvas_with(grid: np.ndarray, side: int) -> torch.Tensor:
    canvas = np.full((side, side), OUTSIDE, dtype=np.uint8)
    canvas[: grid.shape[0], : grid.shape[1]] = grid
    return torch.from_numpy(canvas)[None]


def naive_tokens(grid: np.ndarray, side: int, row: int, column: int) -> np.ndarray:
    """The published builder's sequence: colours + 2, END below and right, at (row, column)."""
    tokens = np.zeros((side, side), dtype=np.uint8)
    height, width = grid.shape
    tokens[row : row + height, column : column + width] = grid + 2
    if row + height < side:
        tokens[row + height, column : column + width] = END
    if column + width < side:
        tokens[row : row + height, column + width] = END
    return tokens


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 2), (8, 8)])
def test_the_end_ring_and_its_inverse(shape: tuple[int, int]) -> None:
    grid = np.random.default_rng(0).integers(10, size=shape).astype(np.uint8)
    tokens = encode(canvas_with(grid, 8), torch.tensor([shape]))
    assert np.array_equal(tokens[0], naive_tokens(grid, 8, 0, 0))
    assert decoded_sizes(tokens).tolist() == [list(shape)]
    shift = (8 - shape[0], max(0, 7 - shape[1]))
    shifted = moved(tokens, torch.tensor([shift]))
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
    found = decoded_sizes(torch.from_numpy(tokens)).tolist()
    assert found == [list(naive_crop(grid)) for grid in tokens]
    assert decoded_sizes(torch.zeros(1, 4, 4, dtype=torch.int64)).tolist() == [[0, 0]]


def test_padding_is_no_label() -> None:
    assert labels_of(torch.tensor([[0, 1, 2, 11]])).tolist() == [[IGNORED, 1, 2, 11]]


def test_views_of_a_task_are_different_and_depend_on_its_id_and_the_seed_alone() -> None:
    views = task_views("a", 50, 3)
    assert views[0] == View()
    assert len(set(views)) == 51
    assert views == task_views("a", 50, 3)
    assert len(task_views("a", 9, 3)) == 10
    assert views != task_views("b", 50, 3)
    assert views != task_views("a", 50, 4)
    assert all(view.colors[0] == 0 for view in views)


def test_held_out_examples_are_the_tests_of_the_last_views_and_never_trained_on(tensors: TaskTensors) -> None:
    identities = Identities.of(["a", "b"], 4, 0)
    train, held_out = make_examples(tensors, identities, 2)
    assert identities.rows == 11
    assert (len(train), len(held_out)) == (2 * 5 * 3 - 4, 4)
    seen = set(zip(train.identities.tolist(), train.pairs.tolist(), strict=True))
    asked = set(zip(held_out.identities.tolist(), held_out.pairs.tolist(), strict=True))
    assert not seen & asked
    assert {pair for _, pair in asked} == {2, 5}
    assert {identity % 5 for identity, _ in asked} == {3, 4}
    for identity, pair in asked:  # its view is learnt from the demonstrations
        assert (identity, pair - 1) in seen
    assert train.sides[train.pairs == 0].tolist() == [4] * 5


@pytest.mark.parametrize("side", [8, 30])
def test_batches_are_the_views_of_their_pairs(random_task: Make, side: int) -> None:
    tasks = [random_task(SIZES, seed=seed) for seed in range(2)]
    tensors = TaskTensors.from_tasks(tasks)
    identities = Identities.of(["a", "b"], 3, 0)
    examples, _ = make_examples(tensors, identities, 0)
    origin = torch.rand(len(examples), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batch = build_batch(tensors, identities, examples, side, 2, origin)
    for row, (identity, pair) in enumerate(zip(examples.identities, examples.pairs, strict=True)):
        task, view = tasks[pair // 3], task_views("ab"[identity // 4], 3, 0)[identity % 4]
        whole = (task.train + task.test)[pair % 3]
        assert whole.output is not None
        grids = [view.apply(whole.input), view.apply(whole.output)]
        places = batch.positions[min(row, len(batch.positions) - 1), 2:].reshape(side, side) - 2
        corner = (0, 0)
        if side == 30:
            room = [30 - max(grid.shape[axis] for grid in grids) for axis in range(2)]
            corner = tuple(int(origin[row, axis] * (room[axis] + 1)) for axis in range(2))  # type: ignore[assignment]
        else:
            assert int(places[0, 0]) == 30 * int(origin[row, 0] * 23) + int(origin[row, 1] * 23)
        assert int(places[1, 2] - places[0, 0]) == 32
        expected = [naive_tokens(grid, side, *corner) for grid in grids]
        assert np.array_equal(batch.tokens[row].view(side, side), expected[0])
        labels = np.where(expected[1] == 0, IGNORED, expected[1].astype(np.int64))
        assert np.array_equal(batch.labels[row].view(side, side), labels)
        assert int(batch.identities[row]) == identity + 1


def test_a_stream_hands_out_every_example_of_a_canvas_before_any_twice() -> None:
    sides = np.array([3] * 10 + [9] * 7)
    examples = Examples(np.zeros(17, dtype=np.int64), np.arange(17), sides)
    stream = Stream(examples, 4, 0, full=False)
    assert stream.sides == (4, 10)
    carry = stream.new_carry(4, torch.device("cpu"))
    seen = []
    for step in range(5):
        stream.refill(carry, 4, step)
        seen += carry.examples.tolist()
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    kept = carry.examples.copy()
    carry.halted = np.array([False, True, False, False])
    stream.refill(carry, 4, 5)
    kept[1] = stream._order(4, 2)[0]  # type: ignore[attr-defined]  # 20 of 10 were taken: the third epoch begins
    assert carry.examples.tolist() == kept.tolist()
    assert carry.taken == 21
    canvases = [stream.side_of(step) for step in range(400)]
    assert 0.5 < np.mean(np.array(canvases) == 4) < 0.68
    assert Stream(examples, 4, 0, full=True).sides == (30,)
    assert canvas_of(np.array([1, 4, 29, 30])).tolist() == [4, 6, 30, 30]


def test_adam_atan2_equals_a_loop_in_float64() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    start, grads = weight.detach().clone(), torch.randn(4, 3, 2, dtype=torch.float64)
    optimizer = AdamAtan2([weight], 0.1, (0.9, 0.95), 0.2)
    for grad in grads:
        weight.grad = grad
        optimizer.step()
    for i in range(3):
        for j in range(2):
            w, m, v = float(start[i, j]), 0.0, 0.0
            for t, grad in enumerate(grads, 1):
                g = float(grad[i, j])
                m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
                w = w * (1 - 0.1 * 0.2) - 0.1 * math.atan2(m / (1 - 0.9**t), math.sqrt(v / (1 - 0.95**t)))
            assert float(weight[i, j].detach()) == pytest.approx(w, rel=1e-12)


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    from hrm.config import ModelConfig
    from hrm.model.reasoner import Reasoner

    model = Reasoner(ModelConfig(hidden_size=16, num_heads=2, H_layers=1, L_layers=1, expansion=1.0, puzzle_emb_ndim=0))
    muon, adamw = make_optimizers(model, TrainingConfig(optimizer="muon"))
    assert len(muon.param_groups[0]["params"]) == 8
    assert len(adamw.param_groups[0]["params"]) == 4


def test_the_rate_warms_up_and_falls_to_its_share() -> None:
    training = TrainingConfig(max_steps=110, warmup_steps=10, lr_min_ratio=0.2)
    assert rate_factor(training, 0) == pytest.approx(0.1)
    assert rate_factor(training, 9) == rate_factor(training, 10) == 1.0
    assert rate_factor(training, 60) == pytest.approx(0.6)
    assert rate_factor(training, 110) == pytest.approx(0.2)
    assert rate_factor(TrainingConfig(scheduler="constant", warmup_steps=0), 10**6) == 1.0
