"""The active reasoner as a solver: a trained policy guides the search for each task's program."""

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
from arc_core.workers import run_in_workers
from jepa_hrl.rl.config import METHOD, TRAIN_COMMAND, EnvConfig
from jepa_hrl.rl.policy.agent import Agent, load_agent
from jepa_hrl.rl.policy.guided_search import GuidedLimits, GuidedSearch
from jepa_hrl.search.engine import Limits, Outcome
from jepa_hrl.solvers.program_search import make_prediction, search_limits


@dataclass(frozen=True)
class ReasonerSolver:
    """A solver that searches programs with a trained policy, of several tasks in parallel on a CPU.

    Attributes:
        agent: policy and world model.
        env: environment that the policy was trained in.
        limits: of a search, where the budget allows as much.
        name: of the solver, in tables.
    """

    agent: Agent
    env: EnvConfig
    limits: GuidedLimits
    name: str = METHOD

    def clip_limits(self, allowed: Limits) -> GuidedLimits:
        """Returns the solver's own limits with the allowed seconds, and at most the allowed programs."""
        programs = min(allowed.programs, self.limits.programs)
        return replace(self.limits, seconds=inf if allowed.seconds is None else allowed.seconds, programs=programs)

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        """Yields the prediction of each task as soon as it is done, in any order."""
        limits = self.clip_limits(search_limits(budget))
        for index, outcome in search_tasks(self.agent, tasks, self.env, limits):
            yield make_prediction(tasks[index], outcome, budget.candidates)


def search_tasks(
    agent: Agent, tasks: Sequence[Task], env: EnvConfig, limits: GuidedLimits, workers: int = -1
) -> Iterator[tuple[int, Outcome]]:
    """Searches tasks in parallel and yields each task's index and outcome as soon as it is done, in any order.

    Args:
        agent: policy and world model.
        tasks: their test outputs are removed before the search.
        env: environment that the policy was trained in.
        limits: of each task's search.
        workers: processes; -1 for one a core. On a GPU there is only one.
    """
    agent.cache.forget()
    workers = workers if agent.cache.device.type == "cpu" else 1
    jobs = (delayed(_search_task)(agent, n, task.without_answers(), env, limits) for n, task in enumerate(tasks))
    yield from run_in_workers(jobs, workers, return_as="generator_unordered", pre_dispatch="2 * n_jobs")


def _search_task(agent: Agent, index: int, task: Task, env: EnvConfig, limits: GuidedLimits) -> tuple[int, Outcome]:
    torch.set_num_threads(1)  # a task at a time on each core
    return index, GuidedSearch(agent, task, env.demonstrations, env.max_steps, limits).run()


def open_reasoner(path: Path | None, device: str) -> OpenSolver:
    """Returns the solver of a trained policy.

    Raises:
        InputError: no checkpoint is given, or it cannot be read.
    """
    if path is None:
        raise InputError(f"{METHOD} needs a checkpoint; train one with {TRAIN_COMMAND}")
    file = resolve_checkpoint(path)
    target = solving_device(device)
    checkpoint = load_checkpoint(file, METHOD)
    agent, config = load_agent(checkpoint, file, target)
    solver = ReasonerSolver(agent, config.env, GuidedLimits())
    parameters = count_parameters(agent.policy, agent.jepa.model)
    return OpenSolver(solver, file, checkpoint.step, checkpoint.training_data, parameters)


entry = SolverEntry(open_reasoner, needs_checkpoint=True, train_command=TRAIN_COMMAND)
