"""Runs every method under one protocol and collects what came out."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from arc_core.checkpoint import CheckpointError
from arc_core.datasets import Overlap
from arc_core.errors import InputError, RunFailure
from arc_core.progress import Progress
from arc_core.runs import newest_run
from arc_core.solver import OpenSolver, SolverEntry, discover_solvers, solver_entry
from arc_core.task import Task
from arc_eval.protocol import Protocol, checkpoint_key, training_overlap
from arc_eval.scores import Scores, prediction_to_json, score_lines
from arc_eval.store import PredictionStore

logger = logging.getLogger(__name__)


@dataclass
class Method:
    """A row of the comparison.

    Attributes:
        name: of the entry point.
        label: in the table; tells checkpoints of one method apart.
        opened: None where it could not be opened.
        key: of the checkpoint's content.
        overlap: of its training data with the evaluation tasks.
        note: why it was not scored, or what failed.
        scores: None until something was scored.
        transductive: how many of the scored tasks it saw in training.
    """

    name: str
    label: str
    opened: OpenSolver | None = None
    key: str = "none"
    overlap: Overlap = field(default_factory=lambda: Overlap((), ()))
    note: str = ""
    scores: Scores | None = None
    transductive: int = 0


def open_methods(wanted: Sequence[str], runs: Path, device: str, tasks: Sequence[Task]) -> list[Method]:
    """The methods of a comparison; by default all installed ones, each with the best checkpoint of its newest run.

    Args:
        wanted: NAME or NAME=CHECKPOINT each; empty for the default.
    Raises:
        InputError: a method that was asked for by name cannot be opened.
    """
    if wanted:
        names = [text.partition("=")[0] for text in wanted]
        several = {name for name in names if names.count(name) > 1}
        return [
            _open_wanted(text, runs, device, tasks, name in several) for text, name in zip(wanted, names, strict=True)
        ]
    found = discover_solvers()
    methods = [Method(name, name, note=f"cannot be loaded: {why}") for name, why in found.failures.items()]
    for name, entry in found.entries.items():
        try:
            opened = entry.open(_newest_checkpoint(name, entry, runs), device)
        except CheckpointError as error:
            methods.append(Method(name, name, note=str(error)))
            continue
        methods.append(_method(name, name, opened, tasks))
    return methods


def _open_wanted(text: str, runs: Path, device: str, tasks: Sequence[Task], several: bool) -> Method:
    name, equals, checkpoint = text.partition("=")
    entry = solver_entry(name)
    path = Path(checkpoint) if equals else _newest_checkpoint(name, entry, runs)
    if path is not None and not path.exists():
        raise InputError(f"--methods {text}: {path} does not exist")
    label = f"{name} {path.name}" if several and path is not None else name
    return _method(name, label, entry.open(path, device), tasks)


def _newest_checkpoint(name: str, entry: SolverEntry, runs: Path) -> Path | None:
    """The newest run of a method, None if it needs none; raises CheckpointError if it needs one and has none."""
    if not entry.needs_checkpoint:
        return None
    run = newest_run(runs, name)
    if run is None:
        raise CheckpointError(f"no run in {runs / name}; train one with: {entry.train_command}")
    return run.path


def _method(name: str, label: str, opened: OpenSolver, tasks: Sequence[Task]) -> Method:
    return Method(name, label, opened, checkpoint_key(opened), training_overlap(opened, tasks))


def run_method(
    method: Method, tasks: Sequence[Task], protocol: Protocol, store: PredictionStore, console: Console
) -> None:
    """Solves what is not stored yet, storing each prediction as it comes, and scores the method.

    A solver that fails ends its own row with the reason; the comparison goes on.
    """
    if method.opened is None:
        return
    stored = store.of(method.name, method.key)
    waiting = [task.without_answers() for task in tasks if task.task_id not in stored]
    done = len(tasks) - len(waiting)
    with Progress(console, len(tasks), method.label, done) as progress:
        if done:
            progress.say(f"{method.label}: {done} of {len(tasks)} tasks were solved before")
        try:
            for prediction in method.opened.solver.solve(waiting, protocol.budget):
                store.append(prediction_to_json(method.name, method.key, prediction))
                done += 1
                progress.update(done)
        except (InputError, RunFailure):
            raise
        except Exception as error:  # any fault of one solver, which must not end the others
            logger.exception("solver %s failed", method.label)
            method.note = f"failed after {done} tasks: {type(error).__name__}: {error}"
    lines = store.of(method.name, method.key)
    method.scores = score_lines(lines, tasks)
    method.transductive = sum(bool(lines[task.task_id]["transductive"]) for task in tasks if task.task_id in lines)


def results_json(
    protocol: Protocol, methods: Sequence[Method], scored: Sequence[Task], excluded: Sequence[str], commit: str | None
) -> dict[str, object]:
    """The content of results.json."""
    return {
        "schema": 1,
        "protocol": asdict(protocol) | {"key": protocol.key, "attempts": 2, "views": protocol.budget.views},
        "commit": commit,
        "tasks_scored": len(scored),
        "left_out_for_overlap": list(excluded),
        "methods": [
            {
                "method": method.name,
                "label": method.label,
                "checkpoint": str(method.opened.checkpoint) if method.opened and method.opened.checkpoint else None,
                "checkpoint_key": method.key,
                "step": method.opened.step if method.opened else None,
                "training_data": list(method.opened.training_data) if method.opened else [],
                "overlap_by_id": list(method.overlap.by_id),
                "overlap_by_content": list(method.overlap.by_content),
                "transductive_tasks": method.transductive,
                "note": method.note,
                "scores": method.scores.as_dict() if method.scores else None,
            }
            for method in methods
        ],
    }
