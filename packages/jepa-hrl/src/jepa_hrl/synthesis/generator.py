"""Tasks from random programs, accepted only where the demonstrations determine the rule.

A task is accepted if its program changes every grid, no step of it is idle, and a search for shorter programs finds
none that gives all demonstrations' outputs and differs on the test, nor one of fewer steps that agrees everywhere.
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
_INPUT_ATTEMPTS = 4  # styles tried for a program
_PROGRAMS = 600  # of the whole language that are searched for a shorter rule
_SIZE = 8  # primitives of those
_PROGRAMS_OF_PHASE = 1800  # of the phase's own primitives


@dataclass(frozen=True)
class PhasePlan:
    """What tasks of a phase are drawn from.

    Attributes:
        name: of the phase.
        steps: that programs are made of.
        lengths, shares: numbers of steps, and how often each is wanted.
        demonstrations: least and most.
        determined: whether a shorter rule must not tell another story.
    """

    name: str
    steps: tuple[Step, ...]
    lengths: tuple[int, ...]
    shares: tuple[float, ...]
    grid: GridConfig
    demonstrations: tuple[int, int]
    determined: bool = True


@dataclass(frozen=True)
class Synthetic:
    """A synthetic task.

    Attributes:
        trace: its steps with their arguments, first to last.
    """

    task: Task
    phase: str
    program: Expression
    trace: tuple[tuple[Step, Arguments], ...]
    seed: int

    @property
    def metadata(self) -> dict[str, object]:
        """As the manifest has it."""
        return {
            "phase": self.phase, "rule_family": self.trace[0][0].family,
            "rule_trace": [{"name": step.name, "args": arguments} for step, arguments in self.trace],
            "program": str(self.program), "length": len(self.trace), "seed": self.seed,
        }  # fmt: skip


def make_task(plan: PhasePlan, index: int, seed: int) -> Synthetic:
    """The task of a number: the same for the same plan, number and seed.

    Raises:
        InputError: no program of the phase makes an acceptable task.
    """
    if not plan.determined:
        return make_practice_task(plan, index, seed)
    rng = generator_for(seed, f"synthetic {plan.name}", index)
    return _first(plan, index, seed, rng, lambda made: is_determined(made.task, made.program, plan.steps))


def make_practice_task(plan: PhasePlan, index: int, seed: int) -> Synthetic:
    """A task that a shorter rule may tell another story about: hundreds of times faster, to practise on.

    Raises:
        InputError: no program of the phase changes its grids.
    """
    return _first(plan, index, seed, generator_for(seed, f"practice {plan.name}", index), lambda made: True)


def _first(
    plan: PhasePlan, index: int, seed: int, rng: np.random.Generator, accepts: Callable[[Synthetic], bool]
) -> Synthetic:
    shares = np.array(plan.shares) / sum(plan.shares)
    length = int(rng.choice(plan.lengths, p=shares))
    for _ in range(_ATTEMPTS):
        made = _draw(plan, index, seed, length, rng)
        if made is not None and accepts(made):
            return made
    raise InputError(
        f"phase {plan.name}: no acceptable task of {length} steps in {_ATTEMPTS} attempts; give it more primitives, "
        "shorter programs or larger grids"
    )


def _draw(plan: PhasePlan, index: int, seed: int, length: int, rng: np.random.Generator) -> Synthetic | None:
    """A task of a random program whose every step changes every grid, if the styles tried have one."""
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
            return Synthetic(task, plan.name, programs[-1], trace, seed)
    return None


def _draw_pairs(
    rng: np.random.Generator, plan: PhasePlan, colors: list[int], programs: Sequence[Expression]
) -> list[Pair] | None:
    """Demonstrations and a test in one style, or nothing where a step is refused or idle."""
    style = STYLES[int(rng.integers(len(STYLES)))]
    number = 1 + int(rng.integers(plan.demonstrations[0], plan.demonstrations[1] + 1))
    square, pairs = rng.random() < 0.5, []
    for _ in range(number):
        height, width = (int(side) for side in rng.integers(plan.grid.min_size, plan.grid.max_size + 1, size=2))
        grid = style(rng, height, height if square else width, colors)
        if len(np.flatnonzero(np.bincount(grid.ravel()))) < 2:
            return None
        output, known = grid, ValueCache()
        for program in programs[1:]:
            after = evaluate(program, grid, known)
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
    """Whether no shorter program tells another story about the demonstrations.

    Two searches: of the whole language as far as a few hundred programs go, and of the phase's primitives much deeper.
    """
    truth: list[Array] = [pair.output for pair in task.test if pair.output is not None]
    for names, programs in ((None, _PROGRAMS), (primitives_of(steps), _PROGRAMS_OF_PHASE)):
        limits = Limits(None, programs, _SIZE, bits=program.cost, margin=program.cost, patience=programs)
        for found in Search(task, limits, names=names).run().solutions:
            agrees = all(np.array_equal(mine, right) for mine, right in zip(found.answers, truth, strict=True))
            if found.program.cost < program.cost and (not agrees or found.program.size < program.size):
                return False
    return True


def primitives_of(steps: Sequence[Step]) -> frozenset[str]:
    """Names of the primitives that steps use."""
    names: set[str] = set()
    for step in steps:
        names.update(names_in(step.apply(INPUT, {"color": 1, "table": {"1": 2}})))
    return frozenset(names)
