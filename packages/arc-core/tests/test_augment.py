from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arc_core.augment import (
    VIEWS_WITH_FIXED_BACKGROUND,
    View,
    compose_dihedral,
    dihedral,
    invert_dihedral,
    random_color_tables,
    view_from_index,
    view_index,
)
from arc_core.grid import Grid, grid_from_rows
from arc_core.task import Task
from arc_core.tensors import CANVAS_SIDES, NO_GRID, OUTSIDE, TaskTensors, canvas_for

elements = st.integers(0, 7)
views = st.builds(View, elements, st.permutations(range(10)).map(tuple))
grids = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(0, 9), min_size=size[1], max_size=size[1]), min_size=size[0], max_size=size[0]
    ).map(grid_from_rows)
)


@given(grids, elements, elements)
def test_composed_elements_act_one_after_the_other(grid: Grid, after: int, before: int) -> None:
    expected = dihedral(dihedral(grid, before), after)
    assert np.array_equal(dihedral(grid, compose_dihedral(after, before)), expected)


@given(elements, elements, elements)
def test_dihedral_composition_is_associative_with_identity_and_inverse(a: int, b: int, c: int) -> None:
    assert compose_dihedral(a, compose_dihedral(b, c)) == compose_dihedral(compose_dihedral(a, b), c)
    assert compose_dihedral(a, 0) == compose_dihedral(0, a) == a
    assert compose_dihedral(a, invert_dihedral(a)) == compose_dihedral(invert_dihedral(a), a) == 0


def test_the_8_elements_are_different_and_number_1_turns_counter_clockwise() -> None:
    grid = grid_from_rows([[0, 1, 2], [3, 4, 5]])
    assert len({(g.shape, g.tobytes()) for g in (dihedral(grid, e) for e in range(8))}) == 8
    assert dihedral(grid, 1).tolist() == [[2, 5], [1, 4], [0, 3]]
    assert dihedral(grid, 4).tolist() == [[0, 3], [1, 4], [2, 5]]


@given(grids, views, views)
def test_views_form_a_group(grid: Grid, one: View, other: View) -> None:
    assert np.array_equal(one.compose(other).apply(grid), one.apply(other.apply(grid)))
    assert np.array_equal(one.inverse().apply(one.apply(grid)), grid)
    assert one.compose(one.inverse()) == View()


@given(st.integers(0, VIEWS_WITH_FIXED_BACKGROUND - 1))
def test_numbers_name_views_with_fixed_background_one_to_one(number: int) -> None:
    view = view_from_index(number)
    assert view.colors[0] == 0
    assert view_index(view) == number


@given(views)
def test_numbers_name_all_views_one_to_one(view: View) -> None:
    assert view_from_index(view_index(view, fix_background=False), fix_background=False) == view


def test_there_are_2903040_views_and_no_more() -> None:
    assert VIEWS_WITH_FIXED_BACKGROUND == 2_903_040
    assert view_from_index(0) == View()
    for number in (-1, VIEWS_WITH_FIXED_BACKGROUND):
        with pytest.raises(ValueError, match="view index must be"):
            view_from_index(number)
    with pytest.raises(ValueError, match="must keep colour 0"):
        view_index(View(0, (1, 0, *range(2, 10))))
    with pytest.raises(ValueError, match="permutation"):
        View(0, (0,) * 10)
    with pytest.raises(ValueError, match="dihedral"):
        View(8)


def test_random_tables_are_permutations_that_keep_the_background_if_asked() -> None:
    rng = np.random.default_rng(0)
    fixed, free = random_color_tables(rng, 2000), random_color_tables(rng, 2000, fix_background=False)
    assert (np.sort(fixed, axis=1) == np.arange(10)).all()
    assert (np.sort(free, axis=1) == np.arange(10)).all()
    assert (fixed[:, 0] == 0).all()
    counts = np.bincount(free[:, 0], minlength=10)  # uniform: 200 each, standard deviation 13
    assert counts.min() > 140
    assert counts.max() < 260


def test_device_batches_equal_one_grid_at_a_time(random_task: Callable[..., Task]) -> None:
    sizes = [((1, 1), (3, 7)), ((30, 2), (5, 30)), ((11, 11), (4, 9)), ((6, 2), (30, 30))]
    task = random_task(sizes)
    pairs = task.train + task.test
    tensors = TaskTensors.from_tasks([task])
    rng = np.random.default_rng(1)
    numbers = np.repeat(np.arange(8), 8)
    element = np.tile(np.arange(8), 8)
    colors = random_color_tables(rng, 64, fix_background=False)
    canvas, found = tensors.gather(
        torch.from_numpy(numbers), torch.from_numpy(element), torch.from_numpy(colors), CANVAS_SIDES[-1]
    )
    for row in range(64):
        pair = pairs[numbers[row] // 2]
        grid = pair.output if numbers[row] % 2 else pair.input
        assert grid is not None
        expected = View(int(element[row]), tuple(colors[row].tolist())).apply(grid)
        height, width = expected.shape
        assert found[row].tolist() == [height, width]
        assert np.array_equal(canvas[row, :height, :width].numpy(), expected)
        assert (canvas[row, height:] == OUTSIDE).all()
        assert (canvas[row, :, width:] == OUTSIDE).all()


def test_absent_grids_give_empty_canvases(random_task: Callable[..., Task]) -> None:
    task = random_task([((2, 2), (2, 2)), ((3, 3), (3, 3))]).without_answers()
    tensors = TaskTensors.from_tasks([task])
    colors = torch.arange(10, dtype=torch.uint8).expand(2, 10)
    canvas, sizes = tensors.gather(torch.tensor([NO_GRID, 3]), torch.tensor([5, 0]), colors, 5)
    assert (canvas == OUTSIDE).all()
    assert (sizes == 0).all()


def test_every_side_fits_its_canvas() -> None:
    for side in range(1, 31):
        canvas = canvas_for(side)
        assert canvas >= side
        assert all(smaller < side for smaller in CANVAS_SIDES if smaller < canvas)
