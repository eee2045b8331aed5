from collections.abc import Callable

import numpy as np
import pytest
import torch

from arc_core.augment import View, dihedral
from arc_core.datasets import load_tasks
from arc_core.extents import answer_extents, transposes
from arc_core.task import Task
from arc_core.tensors import OUTSIDE, TaskTensors
from rlan.config import AugmentationConfig, DataConfig
from rlan.data.queries import (
    NO_PAIR,
    QuerySampler,
    build_inputs,
    build_targets,
    build_test_queries,
    grow_extent,
)

Make = Callable[..., Task]


@pytest.fixture(scope="module")
def real() -> TaskTensors:
    return TaskTensors.from_tasks(load_tasks("arc1:train")[:120])


def test_swapping_elements_are_those_that_exchange_height_and_width() -> None:
    grid = np.zeros((2, 3), dtype=np.uint8)
    shapes = [dihedral(grid, element).shape == (3, 2) for element in range(8)]
    assert transposes(np.arange(8)).tolist() == shapes


@pytest.mark.parametrize(
    ("sizes", "extent"),
    [
        ([((3, 3), (3, 3)), ((5, 4), (5, 4)), ((6, 2), (1, 1))], (7, 5)),  # the largest grid, and a ring
        ([((3, 3), (9, 9)), ((2, 2), (6, 6)), ((4, 5), (1, 1))], (13, 16)),  # three times the test input
        ([((10, 10), (3, 3)), ((12, 12), (3, 3)), ((8, 8), (1, 1))], (13, 13)),
        ([((30, 30), (30, 30)), ((2, 2), (1, 1))], (30, 30)),  # never over 30
    ],
)
def test_the_canvas_is_chosen_from_what_is_shown(
    sizes: list[tuple[tuple[int, int], tuple[int, int]]], extent: tuple[int, int], random_task: Make
) -> None:
    for answer in ((1, 1), (29, 30)):  # whatever the answer's size
        task = random_task([*sizes[:-1], (sizes[-1][0], answer)])
        for hidden in (task, task.without_answers()):
            queries = build_test_queries(TaskTensors.from_tasks([hidden]), [0], 5, View())
            assert queries.answer_extent.tolist() == [list(extent)]


def test_canvases_grow_to_the_largest_grid() -> None:
    answer_extent = np.array([[2, 29]])
    for _ in range(8):
        answer_extent = grow_extent(answer_extent)
    assert answer_extent.tolist() == [[30, 30]]
    assert grow_extent(np.array([[5, 1]])).tolist() == [[8, 2]]


def test_any_pair_is_a_training_query_and_never_its_own_demonstration(real: TaskTensors) -> None:
    sampler = QuerySampler(real, DataConfig(samples_per_task=80), 16, seed=1)
    queries = sampler.epoch_queries(0)
    assert len(queries) == 120 * 80
    task_of = np.searchsorted(real.first_pair, queries.pairs, side="right") - 1
    assert np.array_equal(task_of, np.repeat(np.arange(120), 80))
    assert set(queries.pairs.tolist()) == set(range(int(real.first_pair[-1])))
    shown = queries.demos
    assert not (shown == queries.pairs[:, None]).any()
    rows, columns = np.nonzero(shown != NO_PAIR)
    assert np.array_equal(np.searchsorted(real.first_pair, shown[rows, columns], side="right") - 1, task_of[rows])
    assert all(len(set(row[row >= 0].tolist())) == (row >= 0).sum() >= 1 for row in shown)
    assert (np.diff((shown >= 0).astype(int), axis=1) <= 0).all()  # padding comes last


def test_answers_and_their_ring_fit_the_training_canvas(real: TaskTensors) -> None:
    queries = QuerySampler(real, DataConfig(samples_per_task=10), 16, seed=1).epoch_queries(3)
    _, sizes = build_targets(real, queries, 30)
    assert (np.minimum(sizes.numpy() + 1, 30) <= queries.answer_extent).all()


def test_epochs_are_a_function_of_seed_and_number_and_cached_ones_repeat(real: TaskTensors) -> None:
    def pairs(epoch: int, seed: int = 0, cached: bool = False) -> list[int]:
        data = DataConfig(samples_per_task=3, cache_samples=cached)
        return QuerySampler(real, data, 8, seed).epoch_queries(epoch).pairs.tolist()

    assert pairs(2) == pairs(2)
    assert pairs(2) != pairs(3)
    assert pairs(2) != pairs(2, seed=1)
    assert pairs(2, cached=True) == pairs(7, cached=True) == pairs(0)


def test_augmentation_follows_its_switches(real: TaskTensors) -> None:
    def draw(**views: object) -> tuple[np.ndarray, np.ndarray]:
        data = DataConfig(samples_per_task=20, augmentation=AugmentationConfig(**views))  # type: ignore[arg-type]
        queries = QuerySampler(real, data, 8, 0).epoch_queries(0)
        return queries.elements, queries.colors

    elements, colors = draw()
    assert np.bincount(elements, minlength=8).min() > 200  # 300 expected
    assert (colors[:, 0] == 0).all()
    assert (colors != np.arange(10)).any(axis=1).mean() > 0.99
    elements, colors = draw(dihedral=False, color_permutation_prob=0.25)
    assert not elements.any()
    assert (colors != np.arange(10)).any(axis=1).mean() == pytest.approx(0.25, abs=0.04)
    _, colors = draw(color_permutation=False)
    assert (colors == np.arange(10)).all()
    _, colors = draw(permute_background_prob=1.0)
    assert (colors[:, 0] != 0).mean() == pytest.approx(0.9, abs=0.03)


def test_training_and_solving_build_the_same_inputs(random_task: Make) -> None:
    task = random_task([((3, 4), (5, 2)), ((4, 4), (6, 3)), ((2, 7), (4, 4))])
    view = View(3, (0, 2, 1, *range(3, 10)))
    solving = build_test_queries(TaskTensors.from_tasks([task.without_answers()]), [0], 3, view)
    tensors = TaskTensors.from_tasks([task])
    training = build_test_queries(tensors, [0], 3, view)
    side = int(solving.canvas_sides(tensors).max())
    for one, other in zip(
        build_inputs(TaskTensors.from_tasks([task.without_answers()]), solving, side),
        build_inputs(tensors, training, side),
        strict=True,
    ):
        assert torch.equal(one, other)
    inputs = build_inputs(tensors, training, side)
    turned = view.apply(task.test[0].input)
    assert inputs.query_size.tolist() == [list(turned.shape)]
    assert np.array_equal(inputs.query[0, : turned.shape[0], : turned.shape[1]].numpy(), turned)
    assert inputs.demo_mask.tolist() == [[True, True, False]]
    assert (inputs.demos[0, 2] == OUTSIDE).all()


def test_extents_turn_with_the_view(random_task: Make) -> None:
    task = random_task([((3, 4), (3, 4)), ((2, 9), (2, 9)), ((5, 6), (5, 6))])
    tensors = TaskTensors.from_tasks([task])
    plain, turned = (build_test_queries(tensors, [0], 3, View(element)) for element in (0, 1))
    assert plain.answer_extent.tolist() == [[6, 10]]
    assert turned.answer_extent.tolist() == [[10, 6]]
    assert answer_extents(tensors, plain.pairs, plain.demos).tolist() == [[6, 10]]
