from collections.abc import Callable

import numpy as np
import pytest

from arc_core.augment import View
from arc_core.baselines import background_answers, common_output_answers, identity_answers, predict_output_size
from arc_core.grid import Grid, grid_from_rows
from arc_core.scoring import cell_accuracy, is_exact, score_tests, task_score
from arc_core.solver import discover_solvers
from arc_core.task import Pair, Task
from arc_core.voting import vote, voting_views

A, B, C = (grid_from_rows(rows) for rows in ([[1, 2]], [[1], [2]], [[3]]))


def task_with_tests(*answers: Grid) -> Task:
    return Task("t", (Pair(A, A),), tuple(Pair(A, answer) for answer in answers))


@pytest.mark.parametrize(
    ("ranked", "score"),
    [
        ([[A], [B]], 1.0),
        ([[C, A], [C, B]], 1.0),  # the second attempt counts as much
        ([[C, C, A], [B]], 0.5),  # the third is not looked at
        ([[A]], 0.5),  # a missing test input is wrong
        ([[], [B]], 0.5),  # so is one without attempts
        ([[B], [A]], 0.0),  # right cells in the wrong size
        ([], 0.0),
    ],
)
def test_a_task_scores_the_fraction_of_its_tests_within_two_attempts(ranked: list[list[Grid]], score: float) -> None:
    assert task_score(ranked, task_with_tests(A, B)) == score


def test_one_attempt_is_stricter_than_two() -> None:
    assert score_tests([[C, A]], task_with_tests(A), attempts=1) == [False]
    assert score_tests([[C, A]], task_with_tests(A), attempts=2) == [True]


def test_scoring_refuses_withheld_answers_and_extra_predictions() -> None:
    with pytest.raises(ValueError, match="test 0: scoring needs the output"):
        task_score([[A]], task_with_tests(A).without_answers())
    with pytest.raises(ValueError, match="has 1 test inputs; got predictions for 2"):
        task_score([[A], [A]], task_with_tests(A))


def test_cells_that_a_prediction_lacks_are_wrong() -> None:
    target = grid_from_rows([[0, 0, 1], [0, 2, 0]])
    whole = cell_accuracy(grid_from_rows([[0, 0, 1], [0, 0, 0]]), target)
    assert (whole.pixel, whole.non_background) == (5 / 6, 0.5)
    small = cell_accuracy(grid_from_rows([[0, 0]]), target)
    assert (small.pixel, small.non_background) == (2 / 6, 0.0)
    assert cell_accuracy(None, target).pixel == 0.0
    assert cell_accuracy(C, grid_from_rows([[3]])).non_background is None
    assert not is_exact(None, A)


def test_the_default_is_32_different_views_with_the_identity_first() -> None:
    views = voting_views()
    assert views[0] == View()
    assert len(set(views)) == 32
    assert all(view.colors[0] == 0 for view in views)
    assert voting_views(seed=1) != views
    assert voting_views(seed=0) == views
    with pytest.raises(ValueError, match="views must be"):
        voting_views(9, 1)


def test_votes_count_first_and_mean_confidence_second() -> None:
    turned = View(1)
    answers = [
        (View(), A, 0.9),
        (View(), B, 0.1),
        (turned, turned.apply(B), 0.3),  # the same answer as B, seen in another view
        (View(), C, 0.95),
    ]
    ranked = vote(answers, limit=10)
    assert [(c.grid.tolist(), c.votes, round(c.confidence, 3)) for c in ranked] == [
        (B.tolist(), 2, 0.2), (C.tolist(), 1, 0.95), (A.tolist(), 1, 0.9),
    ]  # fmt: skip
    assert len(vote(answers, limit=2)) == 2
    assert vote([], limit=2) == ()


def test_votes_undo_colors_and_turns(random_task: Callable[..., Task]) -> None:
    grid = random_task([((4, 7), (1, 1)), ((2, 2), (2, 2))]).train[0].input
    ranked = vote(((view, view.apply(grid), 1.0) for view in voting_views()), limit=5)
    assert len(ranked) == 1
    assert ranked[0].votes == 32
    assert np.array_equal(ranked[0].grid, grid)


def test_baselines_answer_as_they_say(random_task: Callable[..., Task]) -> None:
    task = random_task([((2, 3), (4, 6)), ((1, 2), (2, 4)), ((3, 3), (1, 1))])
    grid = task.test[0].input
    assert identity_answers(task, grid) == [grid]
    assert predict_output_size(task, grid) == (6, 6)
    assert background_answers(task, grid)[0].shape == (6, 6)
    common = Task("c", (Pair(A, B), Pair(B, C), Pair(C, B)), task.test)
    assert [answer.tolist() for answer in common_output_answers(common, grid)] == [B.tolist(), C.tolist()]
    assert predict_output_size(common, grid) == (3, 3)
    assert predict_output_size(Task("d", (Pair(A, C), Pair(B, C)), task.test), grid) == (1, 1)


def test_every_entry_point_resolves() -> None:
    found = discover_solvers()
    assert found.failures == {}
    assert {"identity", "most-common-output", "rlan"} <= found.entries.keys()
    assert all(entry.train_command for entry in found.entries.values() if entry.needs_checkpoint)
