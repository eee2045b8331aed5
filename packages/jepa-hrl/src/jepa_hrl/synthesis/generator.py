"""Tasks from random programs, accepted only if the demonstrations determine the rule.

A task is accepted if every step of its program changes every grid, and if a search for shorter programs finds none that
reproduces all demonstrations and differs on the test, nor one of fewer primitives that agrees everywhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from arc_core.errors import InputError
from arc_core.randomness import generator_for
from arc_core.task import Pair, Task
from jepa_hrl.dsl.program import INPUT, Expression, ValueCache, evaluate, names_in
from jepa_hrl.dsl.steps import Arguments, Step
from jepa_hrl.dsl.types import Array
from jepa_hrl.search.engine import Limits, Search
from jepa_hrl.synthesis.config import GridConfig
from jepa_hrl.synthesis.inputs import STYLES

_ATTEMPTS = 4000
_INPUT_ATTEMPTS = 4  # styles of inputs tried for a program
_LANGUAGE_PROGRAMS = 600  # programs of the whole language among which a shorter rule is searched
_PHASE_PROGRAMS = 1800  # programs of the phase's own primitives among which a shorter rule is searched
_MAX_SIZE = 8  # primitives in one of these programs


@dataclass(frozen=True)
class PhasePlan:
    """The distribution from which a phase's tasks are drawn.

    Attributes:
        name: of the phase.
        steps: the steps of which programs consist.
        lengths: numbers of steps of a program.
        shares: relative frequency of each of `lengths`.
        grid: sizes of the input grids.
        demonstrations: least and greatest number of demonstrations of a task.
        determined: whether tasks are accepted only if no shorter rule explains them otherwise.
    """

    name: str
    steps: tuple[Step, ...]
    lengths: tuple[int, ...]
    shares: tuple[float, ...]
    grid: GridConfig
    demonstrations: tuple[int, int]
    determined: bool = True


@dataclass(frozen=True)
class SyntheticTask:
    """A synthetic task with the program that made it.

    Attributes:
        task: the task.
        phase: the name of its phase.
        program: maps each input to its output.
        trace: the program's steps with their arguments, first to last.
        seed: of the data set.
    """

    task: Task
    phase: str
    program: Expression
    trace: tuple[tuple[Step, Arguments], ...]
    seed: int

    @property
    def metadata(self) -> dict[str, object]:
        """The program and its origin as the manifest stores them."""
        return {
            "phase": self.phase, "rule_family": self.trace[0][0].family,
            "rule_trace": [{"name": step.name, "args": arguments} for step, arguments in self.trace],
            "program": str(self.program), "length": len(self.trace), "seed": self.seed,
        }  # fmt: skip


def make_task(plan: PhasePlan, index: int, seed: int) -> SyntheticTask:
    """Makes the task of an index: always the same for the same plan, index and seed.

    Args:
        plan: what to draw from.
        index: of the task in its phase, from 0.
        seed: of the data set.
    Raises:
        InputError: no program of the phase makes an acceptable task.
    """
    if not plan.determined:
        return make_practice_task(plan, index, seed)
    rng = generator_for(seed, f"synthetic {plan.name}", index)
    return _draw_accepted(plan, index, seed, rng, lambda drawn: is_determined(drawn.task, drawn.program, plan.steps))


def make_practice_task(plan: PhasePlan, index: int, seed: int) -> SyntheticTask:
    """Makes a task for practice, which a shorter rule may explain otherwise; this is hundreds of times faster.

    Args:
        plan: what to draw from.
        index: of the task in its phase, from 0.
        seed: of the data set.
    Raises:
        InputError: no program of the phase changes its grids.
    """
    return _draw_accepted(plan, index, seed, generator_for(seed, f"practice {plan.name}", index), lambda drawn: True)


def _draw_accepted(
    plan: PhasePlan, index: int, seed: int, rng: np.random.Generator, accepts: Callable[[SyntheticTask], bool]
) -> SyntheticTask:
    """Draws the length of the program, and tasks of this length until one is accepted."""
    shares = np.array(plan.shares) / sum(plan.shares)
    length = int(rng.choice(plan.lengths, p=shares))
    for _ in range(_ATTEMPTS):
        drawn = _draw_task(plan, index, seed, length, rng)
        if drawn is not None and accepts(drawn):
            return drawn
    raise InputError(
        f"phase {plan.name}: no acceptable task of {length} steps in {_ATTEMPTS} attempts; give it more primitives, "
        "shorter programs or larger grids"
    )


def _draw_task(plan: PhasePlan, index: int, seed: int, length: int, rng: np.random.Generator) -> SyntheticTask | None:
    """Draws a program and inputs that each of its steps changes; None if a few styles of inputs have no such inputs."""
    colors = sorted(int(c) for c in rng.permutation(9)[: int(rng.integers(2, 5))] + 1)
    steps = [plan.steps[int(i)] for i in rng.integers(len(plan.steps), size=length)]
    trace = tuple((step, step.draw(rng, colors)) for step in steps)
    programs: list[Expression] = [INPUT]
    for step, arguments in trace:
        programs.append(step.apply(programs[-1], arguments))
    for _ in range(_INPUT_ATTEMPTS):
        pairs = _draw_pairs(rng, plan, colors, programs)
        if pairs is not None:
            task = Task(f"{plan.name}_{index:05d}", tuple(pairs[:-1]), tuple(pairs[-1:]))
            return SyntheticTask(task, plan.name, programs[-1], trace, seed)
    return None


def _draw_pairs(
    rng: np.random.Generator, plan: PhasePlan, colors: list[int], programs: Sequence[Expression]
) -> list[Pair] | None:
    """Draws demonstrations and a test in one style; None if a step refuses a grid or leaves it as it is."""
    style = STYLES[int(rng.integers(len(STYLES)))]
    num_pairs = 1 + int(rng.integers(plan.demonstrations[0], plan.demonstrations[1] + 1))
    square, pairs = rng.random() < 0.5, []
    for _ in range(num_pairs):
        height, width = (int(side) for side in rng.integers(plan.grid.min_size, plan.grid.max_size + 1, size=2))
        grid = style(rng, height, height if square else width, colors)
        if len(np.flatnonzero(np.bincount(grid.ravel()))) < 2:
            return None
        output, cache = grid, ValueCache()
        for program in programs[1:]:
            after = evaluate(program, grid, cache)
            if not isinstance(after, np.ndarray) or np.array_equal(output, after):
                return None
            output = after
        if not output.any() or np.array_equal(grid, output):
            return None
        pairs.append(Pair(grid, np.ascontiguousarray(output)))
    first = pairs[0].output
    if all(np.array_equal(first, pair.output) for pair in pairs[1:]):  # type: ignore[arg-type]
        return None
    return pairs


def is_determined(task: Task, program: Expression, steps: Sequence[Step]) -> bool:
    """Whether no shorter program reproduces the demonstrations with other answers, or with fewer primitives.

    Two searches look for one: among a few hundred programs of the whole language, and deeper among programs of the
    phase's own primitives.

    Args:
        task: with its test outputs.
        program: the program that made the task.
        steps: the phase's steps.
    """
    truth: list[Array] = [pair.output for pair in task.test if pair.output is not None]
    for names, programs in ((None, _LANGUAGE_PROGRAMS), (primitives_of(steps), _PHASE_PROGRAMS)):
        limits = Limits(None, programs, _MAX_SIZE, bits=program.cost, margin=program.cost, patience=programs)
        for solution in Search(task, limits, names=names).run().solutions:
            agrees = all(np.array_equal(mine, right) for mine, right in zip(solution.answers, truth, strict=True))
            if solution.program.cost < program.cost and (not agrees or solution.program.size < program.size):
                return False
    return True


def primitives_of(steps: Sequence[Step]) -> frozenset[str]:
    """Returns the names of the primitives that steps use."""
    names: set[str] = set()
    for step in steps:
        names.update(names_in(step.apply(INPUT, {"color": 1, "table": {"1": 2}})))
    return frozenset(names)
