"""Program search as solvers."""

import numpy as np
import pytest

from arc_core.grid import Grid
from arc_core.task import Pair, Task
from jepa_hrl.dsl.program import explain, parse
from jepa_hrl.search.engine import Outcome, Solution
from jepa_hrl.solvers.program_search import make_prediction


def test_a_program_is_the_less_certain_the_longer_it_is() -> None:
    grid: Grid = np.array([[1, 2]], dtype=np.uint8)
    task = Task("t", (Pair(grid, grid),), (Pair(grid, None), Pair(grid.T.copy(), None)))
    programs = [parse("flip_vertical(input)"), parse("flip_vertical(transpose(input))"), parse("trim(input)")]
    solutions = [
        Solution(program, 5.0 + bits, (grid + bits, grid.T + bits), 1)
        for program, bits in zip(programs, (0, 2, 3), strict=True)
    ]
    prediction = make_prediction(task, Outcome(solutions=solutions, tested=7, seconds=0.5), 2)
    assert (prediction.task_id, prediction.programs, prediction.seconds) == ("t", 7, 0.5)
    assert len(prediction.candidates) == 2
    for test, candidates in enumerate(prediction.candidates):
        assert [candidate.confidence for candidate in candidates] == pytest.approx([1.0, 0.25])
        for candidate, solution in zip(candidates, solutions, strict=False):
            assert np.array_equal(candidate.grid, solution.answers[test])
            assert candidate.explanation == f"{solution.program}\n{explain(solution.program)}"
