"""The Solver protocol: how evaluation reaches a method without importing it.

A method's package declares a `SolverEntry` under the entry-point group "arc.solvers".
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from arc_core.errors import InputError
from arc_core.grid import Grid
from arc_core.task import Task

GROUP = "arc.solvers"


@dataclass(frozen=True)
class Budget:
    """What a solver may spend.

    Attributes:
        dihedral_views: of the 8 turns, how many to look at (1..8).
        color_views: colour permutations for each of them; the first is the identity.
        seconds_per_task: None for no limit.
        programs_per_task: that a search may test; None for no limit. The same answers come on any machine, as they
            need not with seconds.
        candidates: how many ranked answers to give for a test input.
        seed: of whatever is drawn at random.
        device: "auto", "cpu", "cuda" or "mps".
        use_best_step: solvers that refine an answer in steps give the step that they are surest of, not the last.
    """

    dihedral_views: int = 8
    color_views: int = 4
    seconds_per_task: float | None = None
    programs_per_task: int | None = None
    candidates: int = 100
    seed: int = 0
    device: str = "auto"
    use_best_step: bool = False

    @property
    def views(self) -> int:
        """Views of a task in all."""
        return self.dihedral_views * self.color_views


@dataclass(frozen=True, eq=False)
class Candidate:
    """One answer to a test input.

    Attributes:
        grid: the answer.
        votes: how many views gave it.
        confidence: mean over those views, 0..1.
        explanation: how it was made, of methods that can say: a program, for example; sentences on lines of their own.
    """

    grid: Grid
    votes: int = 1
    confidence: float = 0.0
    explanation: str = ""


@dataclass(frozen=True, eq=False)
class TaskPrediction:
    """A solver's answers to one task.

    Attributes:
        task_id: the task's.
        candidates: per test input, best first; empty where there is no answer.
        seconds: spent on this task; of a batch, its share.
        views: looked at.
        transductive: whether the method saw this task's demonstrations in training.
        forward_passes: of a network over one grid in one view; a step that fits something at test time counts as one.
        programs: tested on the demonstrations.
    """

    task_id: str
    candidates: tuple[tuple[Candidate, ...], ...]
    seconds: float
    views: int = 1
    transductive: bool = False
    forward_passes: int = 0
    programs: int = 0


class Solver(Protocol):
    """Answers tasks, in any order, each as soon as it is done."""

    @property
    def name(self) -> str:
        """As it stands in tables."""
        ...

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        """Answers; the tasks carry no test outputs."""
        ...


@dataclass(frozen=True)
class OpenSolver:
    """A solver that is ready, and what must be declared beside its results.

    Attributes:
        solver: the solver.
        checkpoint: the file that it was opened from; None for methods without training.
        step: training steps of that checkpoint.
        training_data: the data specs that it was trained on; none for methods without training.
        parameters: of its networks.
    """

    solver: Solver
    checkpoint: Path | None = None
    step: int | None = None
    training_data: tuple[str, ...] = ()
    parameters: int = 0


@dataclass(frozen=True)
class SolverEntry:
    """What an entry point of group "arc.solvers" is.

    Attributes:
        open: the solver from a checkpoint or run folder (None for methods that need none) on a device.
        needs_checkpoint: whether it must be trained first.
        train_command: how.
        baseline: whether it is a rule to be beaten, which a vote over methods does not ask.
    """

    open: Callable[[Path | None, str], OpenSolver]
    needs_checkpoint: bool
    train_command: str = ""
    baseline: bool = False


@dataclass(frozen=True)
class InstalledSolvers:
    """Installed methods, and why others could not be loaded."""

    entries: dict[str, SolverEntry]
    failures: dict[str, str] = field(default_factory=dict)


def discover_solvers() -> InstalledSolvers:
    """All entry points of group "arc.solvers"; one that fails to import is reported, not raised."""
    entries: dict[str, SolverEntry] = {}
    failures: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            entry = point.load()
        except Exception as error:  # another package's import may fail in any way
            failures[point.name] = f"{type(error).__name__}: {error}"
            continue
        if isinstance(entry, SolverEntry):
            entries[point.name] = entry
        else:
            failures[point.name] = f"{point.value} must be an arc_core.solver.SolverEntry; got {type(entry).__name__}"
    return InstalledSolvers(entries, failures)


def training_commands() -> dict[str, str]:
    """The training command of every installed method."""
    found = discover_solvers().entries
    return {name: entry.train_command for name, entry in found.items() if entry.train_command}


def solver_entry(name: str) -> SolverEntry:
    """The installed method of a name.

    Raises:
        InputError: there is none, or it cannot be loaded.
    """
    found = discover_solvers()
    if name in found.failures:
        raise InputError(f"method {name} cannot be loaded: {found.failures[name]}")
    if name not in found.entries:
        raise InputError(f"method must be one of {', '.join(found.entries)}; got {name}")
    return found.entries[name]
