"""Each part of the model against its closed form or a loop over cells."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from arc_core.task import Task
from arc_core.tensors import OUTSIDE
from rlan.config import ModelConfig
from rlan.model.context_encoder import RegionMatching, pooling_matrix
from rlan.model.counting import color_counts, color_transitions
from rlan.model.extents import extent_hints
from rlan.model.layers import apply_rotary, extent_mask, rotary_table
from rlan.model.relative_encoding import (
    CHANNELS,
    MultiScaleRelativeEncoding,
    fourier_features,
    mean_over_clues,
    relative_coordinates,
)
from rlan.model.saliency import attention_centroid, clue_usage
from rlan.model.steering import SteeredAttention

SMALL = ModelConfig(hidden_dim=16, num_heads=2, num_solver_steps=3, context_layers=1, spatial_downsample=4)
Make = Callable[..., Task]


def test_usage_is_the_probability_that_no_earlier_clue_stopped() -> None:
    logits = torch.randn(4, 5)
    continues = 1 - torch.sigmoid(logits)
    expected = torch.stack([continues[:, :k].prod(1) for k in range(5)], dim=1)
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
    transitions = color_transitions(torch.from_numpy(demos), torch.from_numpy(mask))
    np.testing.assert_allclose(transitions.numpy(), expected, rtol=1e-6)


def test_size_hints_are_shares_of_demonstrations() -> None:
    sizes = torch.tensor([[[[2, 2], [4, 4]], [[3, 3], [3, 6]], [[9, 9], [9, 9]]]])
    hints = extent_hints(sizes, torch.tensor([[True, True, False]]), torch.tensor([[1, 2]]), 6)
    # As large as an output: 4x4 or 3x6. Scaled as they are: 2x4 (twice) or 1x4 (once and twice).
    assert [hints[0, i, j, 0].item() for i, j in ((2, 3), (3, 3), (2, 5), (3, 4))] == [1.0, 0.5, 0.5, 0.0]
    assert [hints[0, i, j, 1].item() for i, j in ((0, 3), (1, 3), (0, 4), (2, 0))] == [1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("extent", range(1, 12))
def test_pooling_equals_adaptive_average_pooling_of_the_extent(extent: int) -> None:
    line = torch.randn(11)
    means = pooling_matrix(torch.tensor(extent), 8, 11) @ line
    torch.testing.assert_close(means, functional.adaptive_avg_pool1d(line[None, :extent], 8)[0])
    assert not pooling_matrix(torch.tensor(0), 8, 11).any()


def test_rotary_scores_depend_on_the_offset_between_cells_alone() -> None:
    cosine, sine = rotary_table(16)
    query, key = torch.randn(16), torch.randn(16)

    def score(a: tuple[int, int], b: tuple[int, int]) -> float:
        at = [apply_rotary(v[None, None, None], cosine[p][None], sine[p][None]) for v, p in ((query, a), (key, b))]
        return float((at[0] * at[1]).sum())

    assert score((2, 3), (5, 1)) == pytest.approx(score((12, 13), (15, 11)), rel=1e-4)
    assert score((2, 3), (5, 1)) != pytest.approx(score((2, 3), (1, 5)), rel=1e-2)


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
        attended = layer(features, context, sizes, grid)
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
            torch.testing.assert_close(
                attended[b, own[0], own[1]], layer.out(torch.cat(expected)), atol=1e-5, rtol=1e-5
            )


def test_regions_are_matched_to_where_their_colors_lie_whatever_the_size() -> None:
    """An output that is its input reflected points to the reflected positions before any training."""
    torch.manual_seed(0)
    matching = RegionMatching(16)
    torch.nn.init.eye_(matching.out.weight)
    grid = torch.arange(9).view(3, 3)
    demos = torch.full((2, 2, 7, 7), 10, dtype=torch.uint8)
    for index, scale in enumerate((1, 2)):
        for side, cells in enumerate((grid, grid.flip(1))):
            demos[index, side, : 3 * scale, : 3 * scale] = cells.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    sizes = torch.tensor([3, 6])[:, None, None].expand(2, 2, 2)
    positions = torch.nn.functional.one_hot(torch.arange(9), 16).float()
    origins = matching(demos, sizes, positions)
    assert origins.argmax(-1).tolist() == [[2, 1, 0, 5, 4, 3, 8, 7, 6]] * 2
    torch.testing.assert_close(origins[0], origins[1])
