"""Program search as a Solver: `dsl` at fixed costs, `dsl-guided` with costs that a network reads off the task."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from arc_core.solver import Budget, Candidate, OpenSolver, SolverEntry, TaskPrediction
from arc_core.task import Task
from jepa_hrl.search.engine import Limits, Outcome
from jepa_hrl.search.many import Bits, search_tasks
from jepa_hrl.search.prior import METHOD, TRAIN_COMMAND, open_prior

SECONDS = 5.0  # a task, where the budget names no limit


@dataclass(frozen=True)
class SearchSolver:
    """Program search over the tasks of a set, several at once.

    Attributes:
        name: in tables.
        costs: of primitives, for each task.
    """

    name: str
    costs: Callable[[Sequence[Task]], Sequence[Bits]] | None = None

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        """One prediction a task, as soon as it is done."""
        limits = Limits(seconds=budget.seconds_per_task or SECONDS)
        bits = None if self.costs is None else self.costs(tasks)
        for number, outcome in search_tasks(tasks, limits, bits):
            yield prediction(tasks[number], outcome, budget.candidates)


def prediction(task: Task, outcome: Outcome, most: int) -> TaskPrediction:
    """What a search answers: its programs' grids, shortest program first.

    A program's confidence is 2 to the power of minus the bits that it is longer than the shortest.
    """
    found = outcome.solutions[:most]
    candidates = tuple(
        tuple(
            Candidate(solution.answers[test], 1, 2.0 ** (found[0].cost - solution.cost), str(solution.program))
            for solution in found
        )
        for test in range(len(task.test))
    )
    return TaskPrediction(task.task_id, candidates, outcome.seconds)


def open_dsl(path: Path | None, device: str) -> OpenSolver:
    """The search at fixed costs; needs no checkpoint."""
    return OpenSolver(SearchSolver("dsl"))


def open_guided(path: Path | None, device: str) -> OpenSolver:
    """The search with the costs of a trained prior."""
    prior, checkpoint = open_prior(path, device)
    return OpenSolver(SearchSolver(METHOD, prior.bits), checkpoint.file, checkpoint.step, checkpoint.training_data)


dsl = SolverEntry(open_dsl, needs_checkpoint=False)
guided = SolverEntry(open_guided, needs_checkpoint=True, train_command=TRAIN_COMMAND)
