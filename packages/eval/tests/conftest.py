"""A workspace for comparisons: six tasks in a folder, a solver that knows their answers, and the identity."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from arc_core.baselines import Baseline, identity_answers
from arc_core.grid import Grid
from arc_core.solver import Budget, Candidate, InstalledSolvers, OpenSolver, SolverEntry, TaskPrediction
from arc_core.task import Pair, Task, task_to_json

Make = Callable[..., Task]


@dataclass
class Peeking:
    """A solver that knows the answers, counts the tasks that it is asked, and refuses tasks with their answers.

    Attributes:
        truth: the right answers by task id.
        lives: number of tasks after which it raises KeyboardInterrupt.
        faults: ids of tasks on which it raises an error.
        asked: number of tasks that it answered.
        name: its name in tables.
    """

    truth: dict[str, list[Grid]]
    lives: int = 1000
    faults: set[str] = field(default_factory=set)
    asked: int = 0
    name: str = "peeking"

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        for task in tasks:
            assert not any(pair.output is not None for pair in task.test)
            if self.asked == self.lives:
                raise KeyboardInterrupt
            if task.task_id in self.faults:
                raise RuntimeError(f"cannot bear {task.task_id}")
            self.asked += 1
            answers = tuple(
                (Candidate(task.train[0].input, confidence=0.5), Candidate(g, confidence=0.25))
                for g in self.truth[task.task_id]
            )
            yield TaskPrediction(task.task_id, answers, seconds=0.5, views=budget.views, transductive=True, programs=10)


@dataclass(frozen=True)
class World:
    """A workspace with a small data set and a solver that knows its answers.

    Attributes:
        root: the workspace's folder; results/ and runs/ are created below it.
        data: folder of the tasks.
        solver: the solver that knows their answers.
    """

    root: Path
    data: Path
    solver: Peeking


@pytest.fixture
def world(tmp_path: Path, random_task: Make, monkeypatch: pytest.MonkeyPatch) -> World:
    data = tmp_path / "data"
    data.mkdir()
    truth = {}
    for number in range(6):
        task = random_task([((2, 2), (3, 3))] * 3, tests=2, seed=number, task_id=f"t{number}")
        if number == 0:  # one that the identity solves
            task = Task("t0", task.train, tuple(Pair(pair.input, pair.input) for pair in task.test))
        (data / f"t{number}.json").write_text(json.dumps(task_to_json(task)))
        truth[task.task_id] = [pair.output for pair in task.test if pair.output is not None]
    solver = Peeking(truth)
    entries = {
        "identity": SolverEntry(
            lambda path, device: OpenSolver(Baseline("identity", identity_answers)), False, baseline=True
        ),
        "peeking": SolverEntry(lambda path, device: OpenSolver(solver), False),
        "untrained": SolverEntry(lambda path, device: OpenSolver(solver), True, "uv run train-it"),
    }
    monkeypatch.setattr("arc_eval.methods.discover_solvers", lambda: InstalledSolvers(entries, {"broken": "no module"}))
    monkeypatch.setattr("arc_eval.methods.solver_entry", lambda name: entries[name])
    monkeypatch.setattr("arc_eval.compare.workspace_folder", lambda: tmp_path)
    monkeypatch.setattr("arc_eval.result_commands.workspace_folder", lambda: tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return World(tmp_path, data, solver)
