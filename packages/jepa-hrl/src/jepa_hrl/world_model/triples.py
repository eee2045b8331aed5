"""Program triples: a grid, an action, and the grid that the action makes of it; one record a line.

A record is {"input", "program": {"type", "args"}, "output", "metadata"}. The steps of a task's own program come pair by
pair; each step is followed by `explored` records, in which other actions are tried on the same grid.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from joblib import delayed
from rich.console import Console

from arc_core.datasets import load_tasks
from arc_core.errors import InputError
from arc_core.files import show_path, write_json
from arc_core.grid import NUM_COLORS
from arc_core.progress import Progress
from arc_core.randomness import generator_for
from arc_core.task import Task
from arc_core.workers import run_in_workers
from jepa_hrl.dsl.steps import Arguments
from jepa_hrl.dsl.types import Array
from jepa_hrl.world_model.actions import RECOLOR, Action, ActionSet, apply_color_table

_TASKS_PER_JOB = 50


@dataclass(frozen=True)
class TracedTask:
    """A synthetic task with the trace of its program.

    Attributes:
        task: the task.
        trace: names of the program's steps with their arguments.
        metadata: what the generator says of the task: phase, rule_family and more.
    """

    task: Task
    trace: list[tuple[str, Arguments]]
    metadata: Mapping[str, object]


def read_manifest(path: Path) -> list[TracedTask]:
    """Reads the tasks of a manifest with their traces.

    Raises:
        InputError: it does not exist, a line is no task, or a task has no rule_trace.
    """
    if not path.is_file():
        raise InputError(f"the manifest must be one that generate-dataset wrote; {path} does not exist")
    tasks, rows = load_tasks(f"manifest:{path}"), []
    lines = (line for line in path.read_bytes().splitlines() if line.strip())
    for number, (task, line) in enumerate(zip(tasks, lines, strict=True), 1):
        try:
            metadata = json.loads(line)["metadata"]
            trace = [(str(step["name"]), dict(step["args"])) for step in metadata["rule_trace"]]
            trace[0]
        except (ValueError, KeyError, TypeError, IndexError):
            raise InputError(
                f"{show_path(path)}, task {number}: must have metadata.rule_trace, steps with name and args, as "
                f"generate-dataset writes it"
            ) from None
        rows.append(TracedTask(task, trace, metadata))
    return rows


def apply_step(actions: ActionSet, step: str, arguments: Arguments, grid: Array) -> Array | None:
    """Applies a step of a trace to a grid.

    Args:
        actions: that the step must be one of.
        step: name of the step.
        arguments: of the step.
        grid: that it is applied to.
    Returns:
        The outcome; None if the grid refuses the step or the step is not among the actions.
    """
    if step == RECOLOR and actions.recolor is not None:
        return apply_color_table(grid, parse_color_table(arguments))
    index = actions.index_of(step, arguments)
    return None if index is None else actions.outcome(index, grid)


def parse_color_table(arguments: Arguments) -> dict[int, int]:
    """Returns the table from old to new colours of a trace's `recolor`; an empty one for other steps.

    Raises:
        ValueError: the argument is no table of colours.
    """
    table = arguments.get("table", {})
    if not isinstance(table, dict):
        raise ValueError(f"a table of colours is needed; got {table!a:.80}")
    colors = {int(old): int(new) for old, new in table.items()}
    if not all(0 <= color < NUM_COLORS for pair in colors.items() for color in pair):
        raise ValueError(f"colours must be 0..9; got {table!a:.80}")
    return colors


def _task_lines(traced: TracedTask, actions: ActionSet, explored: int, seed: int, index: int) -> list[str]:
    """Returns the records of one task as lines."""
    rng = generator_for(seed, "triples", index)
    task, metadata, lines = traced.task, traced.metadata, []
    for pair_index, pair in enumerate(task.train + task.test):
        grid: Array = pair.input
        for step, (name, arguments) in enumerate(traced.trace):
            after = apply_step(actions, name, arguments, grid)
            if after is None:
                break
            about = {
                "task_id": task.task_id, "phase": metadata.get("phase"), "rule_family": metadata.get("rule_family"),
                "pair": pair_index, "step": step,
            }  # fmt: skip
            lines.append(_line(grid, name, arguments, after, about | {"explored": False}))
            for action, outcome in islice(_explore(actions, grid, rng), explored):
                lines.append(_line(grid, action.step, action.arguments, outcome, about | {"explored": True}))
            grid = after
    return lines


def _explore(actions: ActionSet, grid: Array, rng: np.random.Generator) -> Iterator[tuple[Action, Array]]:
    """Yields the actions that change a grid with their outcomes, in random order."""
    for index in rng.permutation(len(actions)).tolist():
        outcome = None if index == actions.recolor else actions.outcome(index, grid)
        if outcome is not None and not np.array_equal(outcome, grid):
            yield actions.actions[index], outcome


def _line(grid: Array, name: str, arguments: Arguments, after: Array, metadata: dict[str, object]) -> str:
    """Formats a record as a line of JSON."""
    record = {
        "input": grid.tolist(), "program": {"type": name, "args": arguments}, "output": after.tolist(),
        "metadata": metadata,
    }  # fmt: skip
    return json.dumps(record, separators=(",", ":")) + "\n"


def _job_lines(rows: Sequence[TracedTask], first: int, actions: ActionSet, explored: int, seed: int) -> list[str]:
    return [line for n, row in enumerate(rows) for line in _task_lines(row, actions, explored, seed, first + n)]


def write_triples(
    manifest: Path, output: Path, actions: ActionSet, explored: int, seed: int, workers: int, console: Console
) -> int:
    """Writes the records of a manifest's tasks; the file appears only once it is complete.

    Args:
        manifest: that generate-dataset wrote.
        output: file to write.
        actions: that records are made of.
        explored: other actions that are tried on each grid of a trace.
        seed: of the choice of these actions.
        workers: processes; -1 for one for each core.
        console: shows the progress.
    Returns:
        The number of records.
    Raises:
        InputError: see `read_manifest`, or no step of any task is among the actions.
    """
    rows = read_manifest(manifest)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial, count = output.with_name(output.name + ".partial"), 0
    starts = range(0, len(rows), _TASKS_PER_JOB)
    jobs = (delayed(_job_lines)(rows[s : s + _TASKS_PER_JOB], s, actions, explored, seed) for s in starts)
    parts: Iterator[list[str]] = run_in_workers(jobs, workers)
    with Progress(console, len(rows), "tasks") as progress, partial.open("w", encoding="utf-8") as file:
        for done, lines in enumerate(parts, 1):
            file.writelines(lines)
            count += len(lines)
            progress.update(min(done * _TASKS_PER_JOB, len(rows)), f"{count:,} triples")
    if not count:
        partial.unlink()
        raise InputError(f"{show_path(manifest)}: no task's first step is among the actions")
    partial.replace(output)
    about = {"manifest": str(manifest), "explored": explored, "seed": seed, "triples": count}
    write_json(provenance_file(output), about)
    return count


def provenance_file(triples: Path) -> Path:
    """Returns the path of the file beside triples that says what they were made of."""
    return triples.with_name(triples.name + ".source.json")
