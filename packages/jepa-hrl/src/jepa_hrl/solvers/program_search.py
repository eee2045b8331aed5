"""Program search as solvers.

`dsl` searches at fixed costs, `dsl-guided` at costs that a network reads off the task, and `jepa` expands the values
near the goal's latents first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from arc_core.device import count_parameters, solving_device
from arc_core.solver import Budget, Candidate, OpenSolver, SolverEntry, TaskPrediction
from arc_core.task import Task
from jepa_hrl.dsl.program import explain
from jepa_hrl.guidance.primitive_prior import METHOD, TRAIN_COMMAND, load_prior
from jepa_hrl.guidance.step_policy import StepPolicyLoader, load_step_network
from jepa_hrl.jepa.checkpoint import load_jepa
from jepa_hrl.jepa.config import METHOD as JEPA_METHOD
from jepa_hrl.jepa.config import TRAIN_COMMAND as JEPA_COMMAND
from jepa_hrl.search.engine import Limits, Outcome
from jepa_hrl.search.parallel import HeuristicFactory, PolicyFactory, PrimitiveCosts, search_tasks
from jepa_hrl.solvers.latent_guide import LatentGuide

DEFAULT_SECONDS = 5.0  # for a task, where the budget names no limit


@dataclass(frozen=True)
class SearchSolver:
    """A solver that searches programs, of several tasks in parallel.

    Attributes:
        name: of the solver, in tables.
        predict_costs: returns the costs of primitives for each task; None for their fixed costs.
        make_heuristic: returns the heuristic that delays the expansion of values, for a task; None for none.
        make_policy: returns the policy that leads to long programs, for a task; None for none.
    """

    name: str
    predict_costs: Callable[[Sequence[Task]], Sequence[PrimitiveCosts]] | None = None
    make_heuristic: HeuristicFactory | None = None
    make_policy: PolicyFactory | None = None

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        """Yields the prediction of each task as soon as it is done, in any order."""
        limits = search_limits(budget)
        costs = None if self.predict_costs is None else self.predict_costs(tasks)
        outcomes = search_tasks(tasks, limits, costs, make_heuristic=self.make_heuristic, make_policy=self.make_policy)
        for index, outcome in outcomes:
            yield make_prediction(tasks[index], outcome, budget.candidates)


def search_limits(budget: Budget) -> Limits:
    """Returns a budget's limits on a search: 5 seconds a task if it limits neither seconds nor programs."""
    seconds, programs = budget.seconds_per_task, budget.programs_per_task
    return Limits(DEFAULT_SECONDS if seconds is None and programs is None else seconds, programs or Limits.programs)


def make_prediction(task: Task, outcome: Outcome, max_candidates: int) -> TaskPrediction:
    """Returns the outcome of a search as a prediction, the shortest program first.

    A candidate's confidence is 2 to the power of minus the bits by which its program is longer than the shortest. Its
    explanation is the program and, on a second line, what the program does in a sentence.

    Args:
        task: the task that was searched.
        outcome: solutions, by length.
        max_candidates: answers to each test at most.
    """
    solutions = outcome.solutions[:max_candidates]
    explanations = [f"{solution.program}\n{explain(solution.program)}" for solution in solutions]
    candidates = tuple(
        tuple(
            Candidate(solution.answers[test], 1, 2.0 ** (solutions[0].cost - solution.cost), explanation)
            for solution, explanation in zip(solutions, explanations, strict=True)
        )
        for test in range(len(task.test))
    )
    return TaskPrediction(task.task_id, candidates, outcome.seconds, programs=outcome.tested)


def open_dsl(path: Path | None, device: str) -> OpenSolver:
    """Returns the search at fixed costs, which needs no checkpoint."""
    return OpenSolver(SearchSolver("dsl"))


def open_guided(path: Path | None, device: str) -> OpenSolver:
    """Returns the search at the costs of a trained prior, with its step policy for long programs."""
    prior, checkpoint = load_prior(path)
    parameters = count_parameters(prior.network) + count_parameters(load_step_network(checkpoint.file))
    solver = SearchSolver(METHOD, prior.bits, make_policy=StepPolicyLoader(checkpoint.file))
    return OpenSolver(solver, checkpoint.file, checkpoint.step, checkpoint.training_data, parameters)


def open_latent(path: Path | None, device: str) -> OpenSolver:
    """Returns the search with the latents of a trained JEPA as heuristic."""
    jepa = load_jepa(path, solving_device(device))
    parameters = count_parameters(jepa.model)
    # The searches run in worker processes, which share a GPU but have a CPU core each.
    solver = SearchSolver(JEPA_METHOD, make_heuristic=LatentGuide(jepa.file))
    return OpenSolver(solver, jepa.file, jepa.step, jepa.training_data, parameters)


dsl = SolverEntry(open_dsl, needs_checkpoint=False)
guided = SolverEntry(open_guided, needs_checkpoint=True, train_command=TRAIN_COMMAND)
latent = SolverEntry(open_latent, needs_checkpoint=True, train_command=JEPA_COMMAND)
