"""The problem that an episode poses: the input grids of K demonstrations, and the goal grids to turn them into."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import delayed

from arc_core.errors import InputError
from arc_core.files import show_path
from arc_core.task import Task
from arc_core.workers import run_in_workers
from jepa_hrl.dsl.steps import Arguments
from jepa_hrl.dsl.types import Array
from jepa_hrl.synthesis.dataset import build_plans, read_config
from jepa_hrl.synthesis.generator import PhasePlan, make_practice_task
from jepa_hrl.world_model.actions import RECOLOR, ActionSet, apply_color_table, infer_color_table
from jepa_hrl.world_model.triples import read_manifest

_TASKS_A_JOB = 200


@dataclass(frozen=True, eq=False)
class Problem:
    """A task as the agent works on it.

    Attributes:
        name: id of the task.
        inputs, goals: K grids each, the demonstrations' inputs and outputs.
        length: steps of the program that made the task; 0 where that is not known.
        trace: indices of the actions that solve it, in order; empty where no solution is known.
        phase: phase of the curriculum that the task belongs to.
    """

    name: str
    inputs: tuple[Array, ...]
    goals: tuple[Array, ...]
    length: int = 0
    trace: tuple[int, ...] = ()
    phase: str = ""


def problem_from_task(task: Task, demonstrations: int) -> Problem:
    """Returns the problem of a task's first K demonstrations; a task with fewer repeats them."""
    pairs = [task.train[n % len(task.train)] for n in range(demonstrations)]
    outputs = [pair.output for pair in pairs if pair.output is not None]
    return Problem(task.task_id, tuple(pair.input for pair in pairs), tuple(outputs))


def _problem_with_trace(
    task: Task, steps: Sequence[tuple[str, Arguments]], phase: str, actions: ActionSet, demonstrations: int
) -> Problem:
    """Returns the problem of a synthetic task, with the actions of its program if they solve it.

    The environment can infer a table of colours only from the goals, that is as the last action. A program that
    renames colours earlier is tried with this step moved to its end.
    """
    problem = problem_from_task(task, demonstrations)
    indices = [actions.index_of(name, arguments) for name, arguments in steps if name != RECOLOR]
    if len(indices) < len(steps):
        indices.append(actions.recolor)
    trace = tuple(index for index in indices if index is not None)
    needed = steps_to_goal(trace, problem, actions) if len(trace) == len(indices) else None
    return Problem(problem.name, problem.inputs, problem.goals, len(steps), trace[: needed or 0], phase)


def steps_to_goal(trace: Sequence[int], problem: Problem, actions: ActionSet) -> int | None:
    """Returns after how many actions of a trace the problem is solved; None if it is not.

    Args:
        trace: indices of actions. Each must make a first grid that the episode has not visited, as the mask asks.
        problem: where the trace starts, and its goals.
        actions: what the indices mean.
    """
    grids: list[Array] = list(problem.inputs)
    visited = [grids[0]]
    for count, action in enumerate(trace, 1):
        if action == actions.recolor:
            table = infer_color_table(grids, problem.goals)
            if table is None:
                return None
            grids = [apply_color_table(grid, table) for grid in grids]
        else:
            outcomes = [actions.outcome(action, grid) for grid in grids]
            after = [grid for grid in outcomes if grid is not None]
            if len(after) < len(grids) or any(np.array_equal(after[0], grid) for grid in visited):
                return None
            grids = after
            visited.append(grids[0])
        if all(np.array_equal(grid, goal) for grid, goal in zip(grids, problem.goals, strict=True)):
            return count
    return None


def load_problems(path: Path, actions: ActionSet, demonstrations: int) -> list[Problem]:
    """Loads the tasks of a manifest as problems.

    Args:
        path: manifest that generate-dataset wrote.
        actions: actions that the tasks' programs are written in.
        demonstrations: K, pairs of each task.
    Raises:
        InputError: the manifest cannot be read (see `read_manifest`), or a task or its trace is malformed.
    """
    problems = []
    for line, entry in enumerate(read_manifest(path), 1):
        phase = str(entry.metadata.get("phase", ""))
        try:
            problems.append(_problem_with_trace(entry.task, entry.trace, phase, actions, demonstrations))
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise InputError(
                f"{show_path(path)}, task {line}: rule_trace must be steps with their arguments, as generate-dataset "
                f"writes it; {type(error).__name__}: {error}"
            ) from None
    return problems


def generate_practice_problems(
    config: Path, count: int, seed: int, actions: ActionSet, demonstrations: int, workers: int = -1
) -> list[Problem]:
    """Generates problems of a curriculum's programs on new grids; see `make_practice_task`.

    Args:
        config: recipe of generate-dataset; each of its phases gets the same share of problems as of tasks.
        count: problems to generate, rounded for each phase.
        seed: of the programs and grids.
        actions: actions that the programs are written in.
        demonstrations: K, pairs of each problem.
        workers: processes; -1 for one a core.
    """
    plans = build_plans(read_config(config))
    total = sum(tasks for _, tasks in plans)
    jobs = []
    for plan, tasks in plans:
        share = round(count * tasks / total)
        starts = range(0, share, _TASKS_A_JOB)
        jobs += [(plan, range(start, min(start + _TASKS_A_JOB, share))) for start in starts]
    calls = (delayed(_practice_batch)(plan, indices, seed, actions, demonstrations) for plan, indices in jobs)
    return [problem for batch in run_in_workers(calls, workers, return_as="list") for problem in batch]


def _practice_batch(
    plan: PhasePlan, indices: range, seed: int, actions: ActionSet, demonstrations: int
) -> list[Problem]:
    problems = []
    for index in indices:
        sample = make_practice_task(plan, index, seed)
        steps = [(step.name, arguments) for step, arguments in sample.trace]
        problems.append(_problem_with_trace(sample.task, steps, sample.phase, actions, demonstrations))
    return problems
