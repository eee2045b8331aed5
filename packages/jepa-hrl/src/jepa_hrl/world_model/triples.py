"""`prepare-program-triples`: what single actions make of grids, one record a line.

A record is {"input", "program": {"type", "args"}, "output", "metadata"}. The steps of a task's own program come first,
pair by pair; `explored` ones, other actions tried on the same grids, follow each.
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
from jepa_hrl.dsl.steps import Arguments
from jepa_hrl.dsl.types import Array
from jepa_hrl.workers import run_in_workers
from jepa_hrl.world_model.actions import RECOLOR, Action, ActionSet, apply_color_table

_TASKS_A_JOB = 50


@dataclass(frozen=True)
class Traced:
    """A synthetic task with what its generator says of it.

    Attributes:
        trace: the steps of its program, by name with their arguments.
        metadata: phase, rule_family and more.
    """

    task: Task
    trace: list[tuple[str, Arguments]]
    metadata: Mapping[str, object]


def read_manifest(path: Path) -> list[Traced]:
    """The tasks of a manifest.

    Raises:
        InputError: it does not exist, a line is no task, or one does not say its rule_trace.
    """
    if not path.is_file():
        raise InputError(f"the manifest must be one that generate-dataset wrote; {path} does not exist")
    tasks, found = load_tasks(f"manifest:{path}"), []
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
        found.append(Traced(task, trace, metadata))
    return found


def apply_step(actions: ActionSet, step: str, arguments: Arguments, grid: Array) -> Array | None:
    """What a step of a trace makes of a grid; None where it is refused or none of the actions."""
    if step == RECOLOR and actions.recolor is not None:
        return apply_color_table(grid, table_of(arguments))
    number = actions.index_of(step, arguments)
    return None if number is None else actions.outcome(number, grid)


def table_of(arguments: Arguments) -> dict[int, int]:
    """The colours that a `recolor` of a trace renames.

    Raises:
        ValueError: it is no table of colours.
    """
    table = arguments.get("table", {})
    if not isinstance(table, dict):
        raise ValueError(f"a table of colours is needed; got {table!a:.80}")
    renamed_colors = {int(old): int(new) for old, new in table.items()}
    if not all(0 <= color < NUM_COLORS for pair in renamed_colors.items() for color in pair):
        raise ValueError(f"colours must be 0..9; got {table!a:.80}")
    return renamed_colors


def _records(traced: Traced, actions: ActionSet, explored: int, seed: int, number: int) -> list[str]:
    """The lines of one task."""
    rng = generator_for(seed, "triples", number)
    task, metadata, lines = traced.task, traced.metadata, []
    for place, pair in enumerate(task.train + task.test):
        grid: Array = pair.input
        for step, (name, arguments) in enumerate(traced.trace):
            after = apply_step(actions, name, arguments, grid)
            if after is None:
                break
            about = {
                "task_id": task.task_id, "phase": metadata.get("phase"), "rule_family": metadata.get("rule_family"),
                "pair": place, "step": step,
            }  # fmt: skip
            lines.append(_line(grid, name, arguments, after, about | {"explored": False}))
            for action, outcome in islice(_others(actions, grid, rng), explored):
                lines.append(_line(grid, action.step, action.arguments, outcome, about | {"explored": True}))
            grid = after
    return lines


def _others(actions: ActionSet, grid: Array, rng: np.random.Generator) -> Iterator[tuple[Action, Array]]:
    """Actions that change a grid, and what they make of it, in random order."""
    for number in rng.permutation(len(actions)).tolist():
        outcome = None if number == actions.recolor else actions.outcome(number, grid)
        if outcome is not None and not np.array_equal(outcome, grid):
            yield actions.actions[number], outcome


def _line(grid: Array, name: str, arguments: Arguments, after: Array, metadata: dict[str, object]) -> str:
    record = {
        "input": grid.tolist(), "program": {"type": name, "args": arguments}, "output": after.tolist(),
        "metadata": metadata,
    }  # fmt: skip
    return json.dumps(record, separators=(",", ":")) + "\n"


def _many(rows: Sequence[Traced], first: int, actions: ActionSet, explored: int, seed: int) -> list[str]:
    return [line for n, row in enumerate(rows) for line in _records(row, actions, explored, seed, first + n)]


def write_triples(
    manifest: Path, output: Path, actions: ActionSet, explored: int, seed: int, workers: int, console: Console
) -> int:
    """Writes the records of a manifest's tasks, whole or not at all; gives their number.

    Args:
        explored: other actions tried on each grid.
    Raises:
        InputError: see `read_manifest`, or no step of any task is among the actions.
    """
    rows = read_manifest(manifest)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial, count = output.with_name(output.name + ".partial"), 0
    starts = range(0, len(rows), _TASKS_A_JOB)
    jobs = (delayed(_many)(rows[s : s + _TASKS_A_JOB], s, actions, explored, seed) for s in starts)
    made: Iterator[list[str]] = run_in_workers(jobs, workers)
    with Progress(console, len(rows), "tasks") as progress, partial.open("w", encoding="utf-8") as file:
        for number, lines in enumerate(made, 1):
            file.writelines(lines)
            count += len(lines)
            progress.update(min(number * _TASKS_A_JOB, len(rows)), f"{count:,} triples")
    if not count:
        partial.unlink()
        raise InputError(f"{show_path(manifest)}: no task's first step is among the actions")
    partial.replace(output)
    about = {"manifest": str(manifest), "explored": explored, "seed": seed, "triples": count}
    write_json(source_file(output), about)
    return count


def source_file(triples: Path) -> Path:
    """The file beside triples that says what they were made of."""
    return triples.with_name(triples.name + ".source.json")
