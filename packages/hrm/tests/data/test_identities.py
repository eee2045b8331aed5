"""Views of tasks, and which of their pairs are held out."""

from collections.abc import Callable

import numpy as np

from arc_core.augment import View
from arc_core.task import Pair, Task
from arc_core.tensors import TaskTensors
from hrm.data.identities import Identities, draw_task_views, make_examples
from hrm.data.unique_views import draw_unique_views, encode_all_turns

SIZES = [((3, 4), (2, 2)), ((5, 5), (5, 5)), ((1, 2), (6, 1))]


def test_views_of_a_task_are_different_and_depend_on_its_id_and_the_seed_alone() -> None:
    views = draw_task_views("a", 50, 3)
    assert views[0] == View()
    assert len(set(views)) == 51
    assert views == draw_task_views("a", 50, 3)
    assert len(draw_task_views("a", 9, 3)) == 10
    assert views != draw_task_views("b", 50, 3)
    assert views != draw_task_views("a", 50, 4)
    assert all(view.colors[0] == 0 for view in views)


def test_held_out_examples_are_the_tests_of_the_last_views_and_never_trained_on(
    random_task: Callable[..., Task],
) -> None:
    tensors = TaskTensors.from_tasks([random_task(SIZES, seed=seed) for seed in range(2)])
    identities = Identities.from_task_ids(["a", "b"], 4, 0)
    train, held_out = make_examples(tensors, identities, 2)
    assert identities.num_embeddings == 11
    assert (len(train), len(held_out)) == (2 * 5 * 3 - 4, 4)
    trained = set(zip(train.identities.tolist(), train.pairs.tolist(), strict=True))
    scored = set(zip(held_out.identities.tolist(), held_out.pairs.tolist(), strict=True))
    assert not trained & scored
    assert {pair for _, pair in scored} == {2, 5}
    assert {identity % 5 for identity, _ in scored} == {3, 4}
    for identity, pair in scored:  # its view is learnt from the demonstrations
        assert (identity, pair - 1) in trained
    assert identities.views(0)[0] == View()  # a task's own view comes first
    assert train.sides[train.pairs == 0].tolist() == [4] * 5


def test_no_tasks_have_no_identities_and_no_examples() -> None:
    tensors, identities = TaskTensors.from_tasks([]), Identities.from_task_ids([], 2, 0)
    assert tensors.rows.shape == (1, 30)
    assert identities.num_embeddings == 1  # the blank one
    assert [len(examples) for examples in make_examples(tensors, identities, 1)] == [0, 0]


def test_unique_views_are_as_many_as_their_different_token_sequences() -> None:
    plus = np.array([[0, 3, 0], [3, 3, 3], [0, 3, 0]], dtype=np.uint8)  # the same under all turns
    task = Task("plus", (Pair(plus, plus[:2]),), (Pair(plus, np.array([[3, 5]], dtype=np.uint8)),))
    elements, colors = draw_unique_views(task, 2000, seed=0)
    tokens = encode_all_turns(task)
    tables = np.concatenate([np.tile([0, 1], (len(colors), 1)), 2 + colors], axis=1)
    sequences = {table[tokens[element]].tobytes() for element, table in zip(elements, tables, strict=True)}
    assert len(sequences) == len(elements) == 8 * 9 * 8  # 8 turns, 9 x 8 pairs of colours
