import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from arc_core.augment import View
from arc_core.datasets import load_tasks
from arc_core.task import Task
from arc_core.tensors import OUTSIDE, TaskTensors
from rlan.config import ModelConfig, TrainingConfig
from rlan.data.queries import Inputs, build_inputs, build_targets, solving_queries
from rlan.losses.objective import make_targets, total_loss
from rlan.model.context_encoder import RegionMatching, pooling_matrix
from rlan.model.counting import color_counts, color_transitions
from rlan.model.extents import extent_hints
from rlan.model.layers import extent_mask, rotary_table, rotate
from rlan.model.relative_encoding import (
    CHANNELS,
    MultiScaleRelativeEncoding,
    fourier_features,
    mean_over_clues,
    relative_coordinates,
)
from rlan.model.rlan import Rlan
from rlan.model.saliency import attention_centroid, clue_usage
from rlan.model.steering import SteeredAttention

SMALL = ModelConfig(hidden_dim=16, num_heads=2, num_solver_steps=3, context_layers=1, spatial_downsample=4)
Make = Callable[..., Task]


def build(config: ModelConfig = SMALL, seed: int = 0) -> Rlan:
    """A model whose zero-initialised gates and head are opened, so that nothing is hidden behind them."""
    torch.manual_seed(seed)
    model = Rlan(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model


@pytest.fixture
def tensors(random_task: Make) -> TaskTensors:
    sizes = [[((3, 4), (4, 3)), ((2, 2), (3, 3)), ((4, 4), (2, 4))], [((5, 6), (5, 6)), ((6, 4), (6, 4))]]
    sizes.append([((1, 1), (2, 2)), ((2, 1), (4, 2)), ((1, 2), (2, 4)), ((3, 3), (6, 6))])
    return TaskTensors.from_tasks([random_task(pairs, seed=seed) for seed, pairs in enumerate(sizes)])


def inputs_of(tensors: TaskTensors, tasks: list[int], side: int, most: int = 4) -> Inputs:
    return build_inputs(tensors, solving_queries(tensors, tasks, most, View()), side)


def live_logits(model: Rlan, inputs: Inputs, row: int) -> Tensor:
    height, width = inputs.live[row].tolist()
    with torch.no_grad():
        return model(inputs).logits[row, :, :height, :width]


def test_outputs_have_their_documented_shapes(tensors: TaskTensors) -> None:
    outputs = build()(inputs_of(tensors, [0, 1, 2], 11))
    assert outputs.logits.shape == (3, 3, 11, 11, 11)
    assert outputs.logits.dtype == torch.float32
    assert outputs.clues is not None
    assert outputs.clues.attention.shape == (3, 5, 11, 11)
    assert outputs.clues.centroids.shape == (3, 5, 2)
    assert outputs.predicates is not None
    assert outputs.predicates.shape == (3, 16)
    assert outputs.context is not None
    assert outputs.context.shape == (3, 16)


@pytest.mark.parametrize("injection", ["film", "cross_attention"])
def test_logits_do_not_depend_on_canvas_batch_or_masked_pairs(tensors: TaskTensors, injection: str) -> None:
    model = build(replace(SMALL, context_injection=injection, use_hyperlora=True))  # type: ignore[arg-type]
    for row, task in enumerate((0, 1, 2)):
        alone = live_logits(model, inputs_of(tensors, [task], 8, most=3), 0)
        for inputs in (
            inputs_of(tensors, [0, 1, 2], 8, most=3),
            inputs_of(tensors, [0, 1, 2], 14, most=3),
            inputs_of(tensors, [0, 1, 2], 30, most=3),
            inputs_of(tensors, [0, 1, 2], 11, most=7),
        ):
            torch.testing.assert_close(live_logits(model, inputs, row), alone, rtol=1e-4, atol=1e-4)


def test_what_lies_in_masked_pairs_does_not_matter(tensors: TaskTensors) -> None:
    model, inputs = build(), inputs_of(tensors, [0, 1], 8)
    demos = torch.where(inputs.demo_mask[:, :, None, None, None], inputs.demos, 7)
    sizes = torch.where(inputs.demo_mask[:, :, None, None], inputs.demo_sizes, 5)
    changed = inputs._replace(demos=demos, demo_sizes=sizes)
    for row in (0, 1):
        torch.testing.assert_close(live_logits(model, changed, row), live_logits(model, inputs, row))


def test_demonstrations_are_a_set(tensors: TaskTensors) -> None:
    model, inputs = build(), inputs_of(tensors, [2], 11, most=3)
    order = torch.tensor([2, 0, 1])
    shuffled = inputs._replace(
        demos=inputs.demos[:, order], demo_sizes=inputs.demo_sizes[:, order], demo_mask=inputs.demo_mask[:, order]
    )
    torch.testing.assert_close(live_logits(model, shuffled, 0), live_logits(model, inputs, 0), rtol=1e-4, atol=1e-5)
    other = inputs._replace(demos=inputs.demos.roll(1, dims=2))  # inputs and outputs exchanged: another task
    assert not torch.allclose(live_logits(model, other, 0), live_logits(model, inputs, 0), atol=1e-2)


def test_a_new_model_answers_with_a_copy_of_the_input_without_demonstrations(tensors: TaskTensors) -> None:
    inputs = inputs_of(tensors, [0, 1, 2], 11)
    logits = Rlan(replace(SMALL, use_context=False))(inputs).logits
    assert (logits.argmax(-1) == inputs.query[:, None]).all()


def test_a_new_model_renames_colors_as_the_demonstrations_do() -> None:
    tensors = TaskTensors.from_tasks([task for task in load_tasks("arc1:train") if task.task_id == "0d3d703e"])
    queries = solving_queries(tensors, [0], 4, View())
    inputs, (cells, _) = build_inputs(tensors, queries, 5), build_targets(tensors, queries, 5)
    assert (Rlan(SMALL)(inputs).logits.argmax(-1) == cells[:, None]).all()


def test_training_and_evaluation_modes_agree(tensors: TaskTensors) -> None:
    model, inputs = build(), inputs_of(tensors, [0, 1], 8)
    with torch.no_grad():
        assert torch.equal(model.train()(inputs).logits, model.eval()(inputs).logits)


def gradients(config: ModelConfig, tensors: TaskTensors) -> dict[str, bool]:
    model = build(config).train()
    queries = solving_queries(tensors, [0, 1, 2], 4, View())
    inputs = build_inputs(tensors, queries, 11)
    targets = make_targets(*build_targets(tensors, queries, 11))
    loss = total_loss(model(inputs), targets, inputs.live, inputs.query_size, TrainingConfig()).total
    loss.backward()
    assert torch.isfinite(loss)
    return {name: p.grad is not None and bool(p.grad.any()) for name, p in model.named_parameters()}


def test_gradients_reach_every_parameter(tensors: TaskTensors) -> None:
    for injection in ("film", "cross_attention"):
        config = replace(SMALL, context_injection=injection, use_hyperlora=True)  # type: ignore[arg-type]
        found = gradients(config, tensors)
        assert [name for name, reached in found.items() if not reached] == []


@pytest.mark.parametrize(
    "part", ["use_context", "use_dsc", "use_msre", "use_lcr", "use_sph", "use_steering", "solver_attention"]
)
def test_each_part_can_be_switched_off_and_the_rest_still_learns(part: str, tensors: TaskTensors) -> None:
    config = replace(SMALL, **{part: False})
    found = gradients(config, tensors)
    assert [name for name, reached in found.items() if not reached] == []
    assert len(found) < len(list(Rlan(SMALL).parameters()))


def test_attention_sums_to_one_within_the_grid_and_is_zero_past_it(tensors: TaskTensors) -> None:
    inputs = inputs_of(tensors, [0, 1, 2], 11)
    clues = build()(inputs).clues
    assert clues is not None
    inside = extent_mask(inputs.query_size, 11)[:, None].expand_as(clues.attention)
    assert (clues.attention[~inside] == 0).all()
    torch.testing.assert_close(clues.attention.sum((2, 3)), torch.ones(3, 5))
    weights = clues.attention.flatten(2).double()
    entropy = -(weights * weights.clamp_min(1e-300).log()).sum(-1)
    torch.testing.assert_close(clues.entropy.double(), entropy, rtol=1e-4, atol=1e-5)


def test_later_clues_avoid_what_earlier_ones_found() -> None:
    torch.manual_seed(0)
    model = build().saliency
    assert model is not None
    with torch.no_grad():
        model.queries[:] = model.queries[0] * 20  # five equal, certain queries: only masking can part them
    features = torch.randn(1, 6, 6, 16)
    clues = model(features, torch.zeros(1, 16), torch.ones(1, 6, 6, dtype=torch.bool))
    assert len(set(clues.attention.flatten(2).argmax(-1)[0].tolist())) == 5


def test_usage_is_the_product_of_not_having_stopped() -> None:
    logits = torch.randn(4, 5)
    going_on = 1 - torch.sigmoid(logits)
    expected = torch.stack([going_on[:, :k].prod(1) for k in range(5)], dim=1)
    torch.testing.assert_close(clue_usage(logits), expected)


def test_the_centroid_is_the_expected_cell() -> None:
    attention = torch.zeros(1, 2, 5, 5)
    attention[0, 0, 1, 3] = 1.0
    attention[0, 1, 0, 0] = attention[0, 1, 4, 2] = 0.5
    assert attention_centroid(attention).tolist() == [[[1.0, 3.0], [2.0, 1.0]]]


def test_relative_coordinates_equal_their_closed_forms() -> None:
    offset, relative, polar = relative_coordinates(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[4, 8]]), 6)
    for i in range(6):
        for j in range(6):
            y, x = i - 1.0, j - 2.0
            assert offset[0, 0, 0, i].item() == pytest.approx(y / 30)
            assert offset[0, 0, 1, j].item() == pytest.approx(x / 30)
            assert relative[0, 0, 0, i].item() == pytest.approx(y / 4)
            assert relative[0, 0, 1, j].item() == pytest.approx(x / 8)
            radius, angle = np.hypot(y, x), np.arctan2(y, x)
            expected = (radius / 30, np.sin(angle), np.cos(angle))
            assert polar[0, 0, i, j].tolist() == pytest.approx(expected, abs=1e-4)


def test_the_encoding_by_axis_equals_a_linear_layer_of_every_cell() -> None:
    torch.manual_seed(0)
    layer, centroids, sizes = MultiScaleRelativeEncoding(), torch.rand(2, 3, 2) * 5, torch.tensor([[5, 7], [6, 6]])
    encoding = layer(centroids, sizes, 7)
    assert encoding.shape == (2, 3, 7, 7, CHANNELS)
    offset, relative, _ = relative_coordinates(centroids, sizes, 7)
    for group, (values, layers) in enumerate(((offset, layer.offset), (relative, layer.relative))):
        features = fourier_features(values)
        cell = torch.cat([features[1, 2, 0, 4], features[1, 2, 1, 6]])
        weight = torch.cat([layers[0].weight, layers[1].weight], dim=1)
        expected = functional.linear(cell, weight, layers[0].bias + layers[1].bias)
        torch.testing.assert_close(encoding[1, 2, 4, 6, 32 * group : 32 * group + 32], expected)


def test_every_cell_gets_every_clue_weighted_by_usage_alone() -> None:
    encoding, usage = torch.randn(2, 3, 4, 4, 5), torch.rand(2, 3)
    expected = sum(usage[:, k, None, None, None] * encoding[:, k] for k in range(3)) / usage.sum(1)[:, None, None, None]
    torch.testing.assert_close(mean_over_clues(encoding, usage), expected)


def test_counts_equal_numpy() -> None:
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 11, (4, 9, 9)).astype(np.uint8)
    expected = [[(grid == color).sum() for color in range(10)] for grid in canvas]
    assert color_counts(torch.from_numpy(canvas)).tolist() == expected


def test_transitions_equal_a_loop_over_cells() -> None:
    rng = np.random.default_rng(0)
    demos = rng.integers(0, 11, (2, 3, 2, 5, 5)).astype(np.uint8)
    mask = np.array([[True, True, False], [True, True, True]])
    expected = np.zeros((2, 10, 11))
    for b, n, i, j in np.ndindex(2, 3, 5, 5):
        before, after = demos[b, n, 0, i, j], demos[b, n, 1, i, j]
        if mask[b, n] and before != OUTSIDE:
            expected[b, before, after] += 1
    expected /= np.maximum(expected.sum(2, keepdims=True), 1)
    found = color_transitions(torch.from_numpy(demos), torch.from_numpy(mask))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_size_hints_are_shares_of_demonstrations() -> None:
    sizes = torch.tensor([[[[2, 2], [4, 4]], [[3, 3], [3, 6]], [[9, 9], [9, 9]]]])
    hints = extent_hints(sizes, torch.tensor([[True, True, False]]), torch.tensor([[1, 2]]), 6)
    # As large as an output: 4x4 or 3x6. Scaled as they are: 2x4 (twice) or 1x4 (once and twice).
    assert [hints[0, i, j, 0].item() for i, j in ((2, 3), (3, 3), (2, 5), (3, 4))] == [1.0, 0.5, 0.5, 0.0]
    assert [hints[0, i, j, 1].item() for i, j in ((0, 3), (1, 3), (0, 4), (2, 0))] == [1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("extent", range(1, 12))
def test_pooling_equals_adaptive_average_pooling_of_the_extent(extent: int) -> None:
    line = torch.randn(11)
    pooled = pooling_matrix(torch.tensor(extent), 8, 11) @ line
    torch.testing.assert_close(pooled, functional.adaptive_avg_pool1d(line[None, :extent], 8)[0])
    assert not pooling_matrix(torch.tensor(0), 8, 11).any()


def test_rotary_scores_depend_on_the_offset_between_cells_alone() -> None:
    cosine, sine = rotary_table(16)
    query, key = torch.randn(16), torch.randn(16)

    def score(a: tuple[int, int], b: tuple[int, int]) -> float:
        at = [rotate(v[None, None, None], cosine[p][None], sine[p][None]) for v, p in ((query, a), (key, b))]
        return float((at[0] * at[1]).sum())

    assert score((2, 3), (5, 1)) == pytest.approx(score((12, 13), (15, 11)), rel=1e-4)
    assert score((2, 3), (5, 1)) != pytest.approx(score((2, 3), (1, 5)), rel=1e-2)


def test_changing_one_far_cell_reaches_every_other_cell(tensors: TaskTensors) -> None:
    model, inputs = build(), inputs_of(tensors, [1], 8)
    canvas = inputs.query.clone()
    canvas[0, 0, 0] = (canvas[0, 0, 0] + 1) % 10
    difference = live_logits(model, inputs._replace(query=canvas), 0) - live_logits(model, inputs, 0)
    assert (difference[-1].abs().sum(-1) > 0).all()


def test_mixed_precision_stays_close_to_float32_and_keeps_logits_in_it(tensors: TaskTensors) -> None:
    model, inputs = build(), inputs_of(tensors, [0, 1, 2], 11)
    queries = solving_queries(tensors, [0, 1, 2], 4, View())
    targets = make_targets(*build_targets(tensors, queries, 11))
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs = model(inputs)
            losses.append(total_loss(outputs, targets, inputs.live, inputs.query_size, TrainingConfig()).total)
        assert outputs.logits.dtype == torch.float32
    losses[1].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.05)


@pytest.mark.slow
def test_the_model_overfits_one_task_to_100_percent() -> None:
    tensors = TaskTensors.from_tasks([task for task in load_tasks("arc1:train") if task.task_id == "25ff71a9"])
    torch.manual_seed(0)
    model = Rlan(replace(SMALL, hidden_dim=32))
    queries = solving_queries(tensors, [0], 4, View())
    inputs = build_inputs(tensors, queries, 5)
    cells, sizes = build_targets(tensors, queries, 5)
    targets = make_targets(cells, sizes)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(150):
        outputs = model(inputs)
        total_loss(outputs, targets, inputs.live, inputs.query_size, TrainingConfig()).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        live = extent_mask(inputs.live, 5)
        if (outputs.logits[:, -1].argmax(-1) == cells)[live].all():
            return
    pytest.fail("not every cell is right after 150 steps")


def test_steered_attention_equals_a_loop_over_cells() -> None:
    """Scores written out cell by cell in float64: relation x kernel x cos of frequency times distance."""
    torch.manual_seed(0)
    layer = SteeredAttention(SMALL).double()
    torch.nn.init.normal_(layer.kernel)
    batch, side, dim, heads = 2, 4, SMALL.hidden_dim, SMALL.num_heads
    features, context = torch.randn(batch, side, side, dim).double(), torch.randn(batch, dim).double()
    sizes = torch.tensor([[2, 3], [4, 1]])
    grid = extent_mask(sizes, side)
    with torch.no_grad():
        seen = layer(features, context, sizes, grid)
        relation = layer.relation(context).view(batch, heads, 2, 4)
        value = layer.value(features).view(batch, side, side, heads, -1)
    frequencies = [math.pi * (2 / 64) ** (index / 7) for index in range(8)]
    kernel = layer.kernel.tolist()
    for b in range(batch):
        height, width = sizes[b].tolist()
        cells = [(row, column) for row in range(height) for column in range(width)]
        for own in ((0, 0), (1, 2), (3, 3)):
            expected = []
            for head in range(heads):
                scores = []
                for row, column in cells:
                    coordinates = (row, height - 1 - row, column, width - 1 - column)
                    score = sum(
                        float(relation[b, head, axis, index]) * kernel[head][f] * math.cos(w * (own[axis] - c))
                        for axis in range(2) for index, c in enumerate(coordinates) for f, w in enumerate(frequencies)
                    )  # fmt: skip
                    scores.append(score)
                weights = torch.softmax(torch.tensor(scores, dtype=torch.float64), 0)
                values = torch.stack([value[b, row, column, head] for row, column in cells])
                expected.append(weights @ values)
            torch.testing.assert_close(seen[b, own[0], own[1]], layer.out(torch.cat(expected)), atol=1e-5, rtol=1e-5)


def test_regions_are_matched_to_where_their_colors_lie_whatever_the_size() -> None:
    """An output that is its input reflected points to the reflected places, from the first step."""
    torch.manual_seed(0)
    matching = RegionMatching(16)
    torch.nn.init.eye_(matching.read.weight)
    grid = torch.arange(9).view(3, 3)
    demos = torch.full((2, 2, 7, 7), 10, dtype=torch.uint8)
    for number, big in enumerate((1, 2)):  # the second one twice as large
        for side, turned in enumerate((grid, grid.flip(1))):
            demos[number, side, : 3 * big, : 3 * big] = turned.repeat_interleave(big, 0).repeat_interleave(big, 1)
    sizes = torch.tensor([3, 6])[:, None, None].expand(2, 2, 2)
    place = torch.nn.functional.one_hot(torch.arange(9), 16).float()
    found = matching(demos, sizes, place)
    assert found.argmax(-1).tolist() == [[2, 1, 0, 5, 4, 3, 8, 7, 6]] * 2
    torch.testing.assert_close(found[0], found[1])
