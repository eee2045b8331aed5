"""The methods of a comparison: how each is opened, and what it declares about its checkpoint and training data."""

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
from arc_eval.evaluation_set import EvaluationSet
from arc_eval.storage.records import PredictionRecord
from arc_eval.storage.submission import SUBMISSION, read_submission, submission_records


@dataclass
class MethodInfo:
    """Everything that is known about a method beside its scores; results.json stores it under these names.

    Attributes:
        method: name of the entry point, or "submission".
        label: name in tables, different for any two checkpoints of one method.
        checkpoint: path of the checkpoint file; None for methods that have none.
        checkpoint_key: hash of the checkpoint's content; "none" for methods that have none.
        step: training steps of the checkpoint.
        parameters: number of parameters of the method's networks; 0 where there are none.
        training_seconds: duration of the run that wrote the checkpoint; None where unknown.
        training_data: data specs that the method was trained on; None where undeclared.
        unchecked: those of them that cannot be read on this machine, so that overlap with them is unknown.
        overlap_by_id: evaluation tasks whose ids are in the training data.
        overlap_by_content: evaluation tasks whose pairs or test inputs are in the training data.
        baseline: whether the method is a rule without learning, which takes no part in the vote.
        note: why the method was not scored, or why it was given up.
        errors: error message by id of each task that failed.
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
        """Ids of evaluation tasks that are in the training data by id or by content."""
        return {*self.overlap_by_id, *self.overlap_by_content}


@dataclass
class Method:
    """A method of a comparison with the source of its answers: an open solver or a submission.

    Attributes:
        info: what is known about it.
        opened: its solver; None for submissions and for methods that could not be opened.
        records: the answers of a submission; empty for solvers.
    """

    info: MethodInfo
    opened: OpenSolver | None = None
    records: Sequence[PredictionRecord] = ()


def open_methods(names: Sequence[str], runs: Path, device: str, evaluation: EvaluationSet) -> list[Method]:
    """Opens the methods of a comparison; by default all installed ones, each with the best checkpoint of its last run.

    Args:
        names: NAME, NAME=CHECKPOINT, NAME=RECIPE or submission:FILE each; empty for the default.
        runs: folder that holds the runs of all methods.
        device: "auto", "cpu", "cuda" or "mps", on which solvers are opened.
        evaluation: tasks to look for in training data; a submission must answer all of its data spec.
    Raises:
        InputError: a method that is asked for by name cannot be opened.
    """
    if names:
        return _make_labels_unique([_open_by_name(name, runs, device, evaluation) for name in names])
    installed = discover_solvers()
    methods = [
        Method(MethodInfo(name, name, note=f"cannot be loaded: {reason}"))
        for name, reason in installed.failures.items()
    ]
    for name, entry in installed.entries.items():
        try:
            opened = entry.open(_latest_run(name, entry, runs), device)
        except CheckpointError as error:
            methods.append(Method(MethodInfo(name, name, note=str(error), baseline=entry.baseline)))
            continue
        methods.append(_describe_method(name, entry, opened, evaluation.tasks))
    return methods


def _make_labels_unique(methods: Sequence[Method]) -> list[Method]:
    """Appends the run's name to labels that occur twice, and a number where that is not enough."""
    labels = [method.info.label for method in methods]
    used: set[str] = set()
    for method in methods:
        info = method.info
        if labels.count(info.label) > 1 and info.checkpoint is not None:
            file = Path(info.checkpoint)
            info.label += f" {file.stem if info.method == SUBMISSION else file.parent.parent.name}"
        repetition, label = 1, info.label
        while info.label in used:
            repetition += 1
            info.label = f"{label} ({repetition})"
        used.add(info.label)
    return list(methods)


def _open_by_name(text: str, runs: Path, device: str, evaluation: EvaluationSet) -> Method:
    kind, colon, file = text.partition(":")
    if kind == SUBMISSION and colon:
        return _open_submission(Path(file), evaluation.all_tasks)
    name, equals, checkpoint = text.partition("=")
    entry = solver_entry(name)
    path = _find_checkpoint(name, checkpoint, runs) if equals else _latest_run(name, entry, runs)
    return _describe_method(name, entry, entry.open(path, device), evaluation.tasks)


def _open_submission(file: Path, all_tasks: Sequence[Task]) -> Method:
    answers = read_submission(file, all_tasks)
    key = hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()[:16]
    info = MethodInfo(SUBMISSION, f"{SUBMISSION} {file.stem}", str(file), key, training_data=None)
    return Method(info, records=submission_records(answers, key))


def _find_checkpoint(name: str, text: str, runs: Path) -> Path:
    """Returns the checkpoint or run folder at a path, or the newest run of a recipe."""
    path = Path(text)
    if path.exists():
        return path
    run = newest_run(runs, name, text) if path.name == text else None
    if run is None:
        raise InputError(
            f"--methods {name}={text}: {text} is no checkpoint, no run folder and no recipe run in {runs / name}"
        )
    return run.path


def _latest_run(name: str, entry: SolverEntry, runs: Path) -> Path | None:
    """Returns a method's newest run, None if it needs none; raises CheckpointError if it needs one and has none."""
    if not entry.needs_checkpoint:
        return None
    run = newest_run(runs, name)
    if run is None:
        raise CheckpointError(f"no run in {runs / name}; train one with: {entry.train_command}")
    return run.path


def _describe_method(name: str, entry: SolverEntry, opened: OpenSolver, tasks: Sequence[Task]) -> Method:
    shared, unchecked = find_training_overlap(opened, tasks)
    file = opened.checkpoint
    info = MethodInfo(
        name, opened.solver.name, str(file) if file else None, hash_checkpoint(opened), opened.step, opened.parameters,
        read_training_seconds(file), list(opened.training_data), unchecked, list(shared.by_id),
        list(shared.by_content), entry.baseline,
    )  # fmt: skip
    return Method(info, opened)


def find_training_overlap(opened: OpenSolver, tasks: Sequence[Task]) -> tuple[Overlap, list[str]]:
    """Finds the evaluation tasks in a method's training data.

    Args:
        opened: the method's solver, which declares its training data.
        tasks: the tasks to evaluate.
    Returns:
        The overlap, and the training data specs that cannot be read on this machine.
    """
    training_tasks: list[Task] = []
    unchecked = []
    for spec in opened.training_data:
        try:
            training_tasks += load_tasks(spec)
        except InputError:
            unchecked.append(spec)
    return overlap(tasks, training_tasks), unchecked


def hash_checkpoint(opened: OpenSolver) -> str:
    """Returns 16 hexadecimal digits of a hash of the checkpoint file, "none" for methods without one."""
    if opened.checkpoint is None:
        return "none"
    with opened.checkpoint.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read_training_seconds(checkpoint: Path | None) -> float | None:
    """Reads how long the checkpoint's run trained from its summary.json; None where there is none."""
    if checkpoint is None:
        return None
    try:
        value = json.loads((checkpoint.parent.parent / "summary.json").read_bytes())
    except (OSError, ValueError):
        return None
    seconds = value.get("training_seconds") if isinstance(value, Mapping) else None
    return float(seconds) if isinstance(seconds, int | float) else None
