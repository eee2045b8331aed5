"""Program search as a Solver: `dsl` at fixed costs, `dsl-guided` with costs that a network reads off the task, `jepa`
that expands values near the goal's latents first."""

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

SECONDS = 5.0  # a task, where the budget names no limit


@dataclass(frozen=True)
class SearchSolver:
    """Program search over the tasks of a set, several at once.

    Attributes:
        name: in tables.
        costs: of primitives, for each task.
        guide: what puts values off, for each task.
        leader: what leads to long programs, for each task.
    """

    name: str
    costs: Callable[[Sequence[Task]], Sequence[PrimitiveCosts]] | None = None
    guide: HeuristicFactory | None = None
    leader: PolicyFactory | None = None

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        """One prediction a task, as soon as it is done."""
        limits = limits_of(budget)
        bits = None if self.costs is None else self.costs(tasks)
        for number, outcome in search_tasks(tasks, limits, bits, make_heuristic=self.guide, make_policy=self.leader):
            yield prediction(tasks[number], outcome, budget.candidates)


def limits_of(budget: Budget) -> Limits:
    """A search's limits: the budget's, with 5 seconds a task where it names neither seconds nor programs."""
    seconds, programs = budget.seconds_per_task, budget.programs_per_task
    return Limits(SECONDS if seconds is None and programs is None else seconds, programs or Limits.programs)


def prediction(task: Task, outcome: Outcome, most: int) -> TaskPrediction:
    """What a search answers: its programs' grids, shortest program first.

    A program's confidence is 2 to the power of minus the bits that it is longer than the shortest; its explanation is
    the program, and below it what it does in a sentence.
    """
    found = outcome.solutions[:most]
    said = [f"{solution.program}\n{explain(solution.program)}" for solution in found]
    candidates = tuple(
        tuple(
            Candidate(solution.answers[test], 1, 2.0 ** (found[0].cost - solution.cost), how)
            for solution, how in zip(found, said, strict=True)
        )
        for test in range(len(task.test))
    )
    return TaskPrediction(task.task_id, candidates, outcome.seconds, programs=outcome.tested)


def open_dsl(path: Path | None, device: str) -> OpenSolver:
    """The search at fixed costs; needs no checkpoint."""
    return OpenSolver(SearchSolver("dsl"))


def open_guided(path: Path | None, device: str) -> OpenSolver:
    """The search with the costs of a trained prior, led by its policy of steps where programs are long."""
    prior, checkpoint = load_prior(path)
    parameters = count_parameters(prior.network) + count_parameters(load_step_network(checkpoint.file))
    solver = SearchSolver(METHOD, prior.bits, leader=StepPolicyLoader(checkpoint.file))
    return OpenSolver(solver, checkpoint.file, checkpoint.step, checkpoint.training_data, parameters)


def open_latent(path: Path | None, device: str) -> OpenSolver:
    """The search that expands values near the goal's latents of a trained JEPA first."""
    jepa = load_jepa(path, solving_device(device))
    parameters = count_parameters(jepa.model)
    # The searches run in processes of their own, where the CPU is what they have to themselves.
    solver = SearchSolver(JEPA_METHOD, guide=LatentGuide(jepa.file))
    return OpenSolver(solver, jepa.file, jepa.step, jepa.training_data, parameters)


dsl = SolverEntry(open_dsl, needs_checkpoint=False)
guided = SolverEntry(open_guided, needs_checkpoint=True, train_command=TRAIN_COMMAND)
latent = SolverEntry(open_latent, needs_checkpoint=True, train_command=JEPA_COMMAND)
