"""What an episode is about: grids of a task's demonstrations and what they are to become. K demonstrations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import delayed

from arc_core.errors import InputError
from arc_core.files import show_path
from arc_core.task import Task
from jepa_hrl.dsl.steps import Arguments
from jepa_hrl.dsl.types import Array
from jepa_hrl.synthesis.dataset import build_plans, read_config
from jepa_hrl.synthesis.generator import PhasePlan, make_practice_task
from jepa_hrl.workers import run_in_workers
from jepa_hrl.world_model.actions import RECOLOR, ActionSet, apply_color_table, infer_color_table
from jepa_hrl.world_model.triples import read_manifest

_TASKS_A_JOB = 200


@dataclass(frozen=True, eq=False)
class Problem:
    """A task as an agent sees it.

    Attributes:
        name: of the task.
        inputs, goals: K grids each.
        length: steps of the program that made it, 0 where that is not known.
        trace: actions that solve it, in order; none where that is not known.
        phase: of the curriculum.
    """

    name: str
    inputs: tuple[Array, ...]
    goals: tuple[Array, ...]
    length: int = 0
    trace: tuple[int, ...] = ()
    phase: str = ""


def problem_from_task(task: Task, demonstrations: int) -> Problem:
    """A task's first demonstrations; where it has fewer, they come again."""
    pairs = [task.train[n % len(task.train)] for n in range(demonstrations)]
    outputs = [pair.output for pair in pairs if pair.output is not None]
    return Problem(task.task_id, tuple(pair.input for pair in pairs), tuple(outputs))


def _traced_problem(
    task: Task, steps: Sequence[tuple[str, Arguments]], phase: str, actions: ActionSet, demonstrations: int
) -> Problem:
    """A synthetic task with the actions of its program, if they solve it.

    Colours can be renamed only at the end, where the table shows; that is tried for programs that do so before.
    """
    problem = problem_from_task(task, demonstrations)
    numbers = [actions.index_of(name, arguments) for name, arguments in steps if name != RECOLOR]
    if len(numbers) < len(steps):
        numbers.append(actions.recolor)
    known = tuple(number for number in numbers if number is not None)
    steps_needed = steps_to_goal(known, problem, actions) if len(known) == len(numbers) else None
    return Problem(problem.name, problem.inputs, problem.goals, len(steps), known[: steps_needed or 0], phase)


def steps_to_goal(numbers: Sequence[int], problem: Problem, actions: ActionSet) -> int | None:
    """How many of some actions, each of which must give a new first grid, make the goals; None if none do."""
    grids: list[Array] = list(problem.inputs)
    before = [grids[0]]
    for count, number in enumerate(numbers, 1):
        if number == actions.recolor:
            table = infer_color_table(grids, problem.goals)
            if table is None:
                return None
            grids = [apply_color_table(grid, table) for grid in grids]
        else:
            made = [actions.outcome(number, grid) for grid in grids]
            after = [grid for grid in made if grid is not None]
            if len(after) < len(grids) or any(np.array_equal(after[0], grid) for grid in before):
                return None
            grids = after
            before.append(grids[0])
        if all(np.array_equal(grid, goal) for grid, goal in zip(grids, problem.goals, strict=True)):
            return count
    return None


def load_problems(path: Path, actions: ActionSet, demonstrations: int) -> list[Problem]:
    """The tasks of a manifest.

    Raises:
        InputError: see `read_manifest`; or a task or its trace is none.
    """
    found = []
    for number, traced in enumerate(read_manifest(path), 1):
        phase = str(traced.metadata.get("phase", ""))
        try:
            found.append(_traced_problem(traced.task, traced.trace, phase, actions, demonstrations))
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise InputError(
                f"{show_path(path)}, task {number}: rule_trace must be steps with their arguments, as generate-dataset "
                f"writes it; {type(error).__name__}: {error}"
            ) from None
    return found


def generate_practice_problems(
    config: Path, count: int, seed: int, actions: ActionSet, demonstrations: int, workers: int = -1
) -> list[Problem]:
    """Puzzles of a curriculum's programs on new grids, each phase with its share; see `make_practice_task`."""
    plans = build_plans(read_config(config))
    total = sum(number for _, number in plans)
    jobs = []
    for plan, number in plans:
        share = round(count * number / total)
        starts = range(0, share, _TASKS_A_JOB)
        jobs += [(plan, range(start, min(start + _TASKS_A_JOB, share))) for start in starts]
    made = (delayed(_practice)(plan, numbers, seed, actions, demonstrations) for plan, numbers in jobs)
    return [problem for part in run_in_workers(made, workers, return_as="list") for problem in part]


def _practice(plan: PhasePlan, numbers: range, seed: int, actions: ActionSet, demonstrations: int) -> list[Problem]:
    found = []
    for number in numbers:
        made = make_practice_task(plan, number, seed)
        steps = [(step.name, arguments) for step, arguments in made.trace]
        found.append(_traced_problem(made.task, steps, made.phase, actions, demonstrations))
    return found
