"""The Solver protocol, by which evaluation reaches a method without importing its package.

A method's package declares a `SolverEntry` in the entry-point group "arc.solvers".
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
    """The computation that a solver may spend.

    Attributes:
        dihedral_views: number of dihedral views of a task, 1..8.
        color_views: number of colour permutations for each of them, 1 or more; the first is the identity.
        seconds_per_task: time limit of a search; None for the solver's own.
        programs_per_task: number of programs that a search may test; None for no limit. Unlike a time limit it gives
            the same answers on any machine.
        candidates: maximum number of ranked answers to a test input.
        seed: seed of everything that is drawn at random.
        device: "auto", "cpu", "cuda" or "mps".
        use_best_step: whether solvers that refine an answer in steps return their most confident step, not the last.
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
        """Number of views of a task, all combinations counted."""
        return self.dihedral_views * self.color_views


@dataclass(frozen=True, eq=False)
class Candidate:
    """One answer to a test input.

    Attributes:
        grid: the answer.
        votes: number of views that gave it.
        confidence: mean confidence over those views, 0..1.
        explanation: how the answer was made, such as a program, one sentence a line; empty if the method cannot say.
    """

    grid: Grid
    votes: int = 1
    confidence: float = 0.0
    explanation: str = ""


@dataclass(frozen=True, eq=False)
class TaskPrediction:
    """A solver's answers to one task.

    Attributes:
        task_id: id of the task.
        candidates: candidates for each test input, best first; empty where there is no answer.
        seconds: time spent on this task; its share of a batch's time if tasks are solved in batches.
        views: number of views of the task that were used.
        transductive: whether the method saw this task's demonstrations in training.
        forward_passes: passes of a network over one grid in one view; a training step at test time counts as one.
        programs: number of programs that were tested on the demonstrations.
    """

    task_id: str
    candidates: tuple[tuple[Candidate, ...], ...]
    seconds: float
    views: int = 1
    transductive: bool = False
    forward_passes: int = 0
    programs: int = 0


class Solver(Protocol):
    """An object that answers tasks, in any order, each as soon as it is done."""

    @property
    def name(self) -> str:
        """Name of the solver in tables."""
        ...

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        """Yields one prediction for each task; the tasks carry no test outputs."""
        ...


@dataclass(frozen=True)
class OpenSolver:
    """A solver that is ready to use, with everything that must be declared beside its results.

    Attributes:
        solver: the solver.
        checkpoint: file that it was opened from; None for methods without training.
        step: training steps of that checkpoint.
        training_data: data specs that it was trained on; empty for methods without training.
        parameters: number of parameters of its networks.
    """

    solver: Solver
    checkpoint: Path | None = None
    step: int | None = None
    training_data: tuple[str, ...] = ()
    parameters: int = 0


@dataclass(frozen=True)
class SolverEntry:
    """The object that an entry point of group "arc.solvers" names.

    Attributes:
        open: opens the solver from a checkpoint or run folder (None for methods that need none) on a device.
        needs_checkpoint: whether the method must be trained first.
        train_command: command that trains it.
        baseline: whether it is a rule without learning, which takes no part in a vote over methods.
    """

    open: Callable[[Path | None, str], OpenSolver]
    needs_checkpoint: bool
    train_command: str = ""
    baseline: bool = False


@dataclass(frozen=True)
class InstalledSolvers:
    """The installed methods.

    Attributes:
        entries: methods that were loaded, by name.
        failures: error message by name of each method that could not be loaded.
    """

    entries: dict[str, SolverEntry]
    failures: dict[str, str] = field(default_factory=dict)


def discover_solvers() -> InstalledSolvers:
    """Loads all entry points of group "arc.solvers"; one that fails to import is reported, not raised."""
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
    """Returns the training command of every installed method that has one, by name."""
    entries = discover_solvers().entries
    return {name: entry.train_command for name, entry in entries.items() if entry.train_command}


def solver_entry(name: str) -> SolverEntry:
    """Returns the installed method of a name.

    Raises:
        InputError: there is none, or it cannot be loaded.
    """
    installed = discover_solvers()
    if name in installed.failures:
        raise InputError(f"method {name} cannot be loaded: {installed.failures[name]}")
    if name not in installed.entries:
        raise InputError(f"method must be one of {', '.join(installed.entries)}; got {name}")
    return installed.entries[name]
