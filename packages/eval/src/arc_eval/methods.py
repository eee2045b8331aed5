"""The rows of a comparison: what is declared about each method, and how it is opened."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arc_core.checkpoint import CheckpointError
from arc_core.datasets import Overlap, load_tasks, overlap
from arc_core.errors import InputError
from arc_core.runs import newest_run
from arc_core.solver import OpenSolver, SolverEntry, discover_solvers, solver_entry
from arc_core.task import Task
from arc_eval.storage.records import Line
from arc_eval.storage.submission import SUBMISSION, read_submission, submission_lines


@dataclass
class Row:
    """What is declared about a method beside its scores; stored in results.json as it stands here.

    Attributes:
        method: name of the entry point, or "submission".
        label: in tables; tells checkpoints of one method apart.
        checkpoint: the file; None for methods that have none.
        checkpoint_key: of its content.
        step: training steps of it.
        parameters: of the networks; 0 where there are none.
        training_seconds: of the run that made the checkpoint; None where unknown.
        training_data: specs; None where undeclared.
        unchecked: of the training data, specs that cannot be read here, so that overlap with them is unknown.
        overlap_by_id, overlap_by_content: evaluation tasks that the training data holds.
        baseline: whether it is a rule to be beaten.
        note: why it was not scored, or what failed.
        errors: by task, what went wrong there.
    """

    method: str
    label: str
    checkpoint: str | None = None
    checkpoint_key: str = "none"
    step: int | None = None
    parameters: int = 0
    training_seconds: float | None = None
    training_data: list[str] | None = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    overlap_by_id: list[str] = field(default_factory=list)
    overlap_by_content: list[str] = field(default_factory=list)
    baseline: bool = False
    note: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def overlap(self) -> set[str]:
        """Ids of evaluation tasks that the training data holds by id or by content."""
        return {*self.overlap_by_id, *self.overlap_by_content}


@dataclass
class Method:
    """A row and what answers for it: a solver, or lines that are there already."""

    row: Row
    opened: OpenSolver | None = None
    lines: Sequence[Line] = ()


def open_methods(
    wanted: Sequence[str], runs: Path, device: str, tasks: Sequence[Task], whole: Sequence[Task]
) -> list[Method]:
    """The methods of a comparison; by default all installed ones, each with the best checkpoint of its newest run.

    Args:
        wanted: NAME, NAME=CHECKPOINT, NAME=RECIPE or submission:FILE each; empty for the default.
        tasks: to be scored on.
        whole: all tasks of the data, which a submission must answer.
    Raises:
        InputError: a method that was asked for by name cannot be opened.
    """
    if wanted:
        return _told_apart([_open_wanted(text, runs, device, tasks, whole) for text in wanted])
    found = discover_solvers()
    methods = [Method(Row(name, name, note=f"cannot be loaded: {why}")) for name, why in found.failures.items()]
    for name, entry in found.entries.items():
        try:
            opened = entry.open(_newest_checkpoint(name, entry, runs), device)
        except CheckpointError as error:
            methods.append(Method(Row(name, name, note=str(error), baseline=entry.baseline)))
            continue
        methods.append(_method(name, entry, opened, tasks))
    return methods


def _told_apart(methods: Sequence[Method]) -> list[Method]:
    """The same, with the run's name after labels that stand twice, and a number where that is not enough."""
    labels = [method.row.label for method in methods]
    taken: set[str] = set()
    for method in methods:
        row = method.row
        if labels.count(row.label) > 1 and row.checkpoint is not None:
            file = Path(row.checkpoint)
            row.label += f" {file.stem if row.method == SUBMISSION else file.parent.parent.name}"
        number, label = 1, row.label
        while row.label in taken:
            number += 1
            row.label = f"{label} ({number})"
        taken.add(row.label)
    return list(methods)


def _open_wanted(text: str, runs: Path, device: str, tasks: Sequence[Task], whole: Sequence[Task]) -> Method:
    kind, colon, file = text.partition(":")
    if kind == SUBMISSION and colon:
        return _submitted(Path(file), whole)
    name, equals, checkpoint = text.partition("=")
    entry = solver_entry(name)
    path = _named_checkpoint(name, checkpoint, runs) if equals else _newest_checkpoint(name, entry, runs)
    return _method(name, entry, entry.open(path, device), tasks)


def _submitted(file: Path, whole: Sequence[Task]) -> Method:
    answers = read_submission(file, whole)
    key = hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()[:16]
    row = Row(SUBMISSION, f"{SUBMISSION} {file.stem}", str(file), key, training_data=None)
    return Method(row, lines=submission_lines(answers, key))


def _named_checkpoint(name: str, text: str, runs: Path) -> Path:
    """A checkpoint or run folder, or the newest run of a recipe."""
    path = Path(text)
    if path.exists():
        return path
    run = newest_run(runs, name, text) if path.name == text else None
    if run is None:
        raise InputError(
            f"--methods {name}={text}: {text} is no checkpoint, no run folder and no recipe run in {runs / name}"
        )
    return run.path


def _newest_checkpoint(name: str, entry: SolverEntry, runs: Path) -> Path | None:
    """The newest run of a method, None if it needs none; raises CheckpointError if it needs one and has none."""
    if not entry.needs_checkpoint:
        return None
    run = newest_run(runs, name)
    if run is None:
        raise CheckpointError(f"no run in {runs / name}; train one with: {entry.train_command}")
    return run.path


def _method(name: str, entry: SolverEntry, opened: OpenSolver, tasks: Sequence[Task]) -> Method:
    shared, unchecked = training_overlap(opened, tasks)
    file = opened.checkpoint
    row = Row(
        name, opened.solver.name, str(file) if file else None, checkpoint_key(opened), opened.step, opened.parameters,
        training_seconds(file), list(opened.training_data), unchecked, list(shared.by_id), list(shared.by_content),
        entry.baseline,
    )  # fmt: skip
    return Method(row, opened)


def training_overlap(opened: OpenSolver, tasks: Sequence[Task]) -> tuple[Overlap, list[str]]:
    """Which evaluation tasks the method's training data holds, and the specs of it that cannot be read here."""
    learnt: list[Task] = []
    unchecked = []
    for spec in opened.training_data:
        try:
            learnt += load_tasks(spec)
        except InputError:
            unchecked.append(spec)
    return overlap(tasks, learnt), unchecked


def checkpoint_key(opened: OpenSolver) -> str:
    """16 hexadecimal digits of the checkpoint's content, "none" for methods without one."""
    if opened.checkpoint is None:
        return "none"
    with opened.checkpoint.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def training_seconds(checkpoint: Path | None) -> float | None:
    """What the checkpoint's run took, as its summary.json says; None where there is none."""
    if checkpoint is None:
        return None
    try:
        value = json.loads((checkpoint.parent.parent / "summary.json").read_bytes())
    except (OSError, ValueError):
        return None
    seconds = value.get("training_seconds") if isinstance(value, Mapping) else None
    return float(seconds) if isinstance(seconds, int | float) else None
