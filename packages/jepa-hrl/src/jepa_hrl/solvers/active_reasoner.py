"""The active reasoner as a Solver: a trained policy guides the search for each task's program."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import torch
from joblib import delayed

from arc_core.checkpoint import load_checkpoint, resolve_checkpoint
from arc_core.device import count_parameters, solving_device
from arc_core.errors import InputError
from arc_core.solver import Budget, OpenSolver, SolverEntry, TaskPrediction
from arc_core.task import Task
from jepa_hrl.rl.config import METHOD, TRAIN_COMMAND, EnvConfig
from jepa_hrl.rl.policy.agent import Agent, load_agent
from jepa_hrl.rl.policy.guided_search import GuidedLimits, GuidedSearch
from jepa_hrl.search.engine import Limits, Outcome
from jepa_hrl.solvers.program_search import limits_of, prediction
from jepa_hrl.workers import run_in_workers


@dataclass(frozen=True)
class ReasonerSolver:
    """Guided search over the tasks of a set, several at once on a CPU."""

    agent: Agent
    env: EnvConfig
    limits: GuidedLimits
    name: str = METHOD

    def within(self, allowed: Limits) -> GuidedLimits:
        """Its own limits, held to those of a search."""
        most = min(allowed.programs, self.limits.programs)
        return replace(self.limits, seconds=inf if allowed.seconds is None else allowed.seconds, programs=most)

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        """One prediction a task, as soon as it is done."""
        limits = self.within(limits_of(budget))
        for number, outcome in search_tasks(self.agent, tasks, self.env, limits):
            yield prediction(tasks[number], outcome, budget.candidates)


def search_tasks(
    agent: Agent, tasks: Sequence[Task], env: EnvConfig, limits: GuidedLimits, workers: int = -1
) -> Iterator[tuple[int, Outcome]]:
    """Each task's number and outcome as soon as it is done."""
    agent.cache.forget()
    workers = workers if agent.cache.device.type == "cpu" else 1
    jobs = (delayed(_search)(agent, number, task.without_answers(), env, limits) for number, task in enumerate(tasks))
    yield from run_in_workers(jobs, workers, return_as="generator_unordered", pre_dispatch="2 * n_jobs")


def _search(agent: Agent, number: int, task: Task, env: EnvConfig, limits: GuidedLimits) -> tuple[int, Outcome]:
    torch.set_num_threads(1)  # a task at a time on each core
    return number, GuidedSearch(agent, task, env.demonstrations, env.max_steps, limits).run()


def open_reasoner(path: Path | None, device: str) -> OpenSolver:
    """The solver of a trained policy.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if path is None:
        raise InputError(f"{METHOD} needs a checkpoint; train one with {TRAIN_COMMAND}")
    file = resolve_checkpoint(path)
    where = solving_device(device)
    checkpoint = load_checkpoint(file, METHOD, where)
    agent, config = load_agent(checkpoint, file, where)
    solver = ReasonerSolver(agent, config.env, GuidedLimits())
    parameters = count_parameters(agent.policy, agent.jepa.model)
    return OpenSolver(solver, file, checkpoint.step, checkpoint.training_data, parameters)


entry = SolverEntry(open_reasoner, needs_checkpoint=True, train_command=TRAIN_COMMAND)
