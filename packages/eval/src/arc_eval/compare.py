"""`eval compare`: every method under one protocol, continued where it was interrupted."""

import argparse
import datetime
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from arc_core.config import workspace_folder
from arc_core.device import solving_device
from arc_core.errors import InputError
from arc_core.files import show_path, write_json
from arc_core.grid import NUM_COLORS
from arc_core.runs import git_commit
from arc_core.scoring import ATTEMPTS
from arc_core.solver import Budget
from arc_core.task import Task
from arc_eval.methods import Method, open_methods
from arc_eval.protocol import Protocol, environment, left_out, load_evaluation, make_protocol
from arc_eval.report.build import write_report
from arc_eval.runner import run_method
from arc_eval.storage.prediction_store import PredictionStore
from arc_eval.storage.records import Lines
from arc_eval.storage.results import Comparison, compare_rows
from arc_eval.storage.submission import submission_of, write_submission
from arc_eval.table import show


def parse_views(text: str) -> tuple[int, int]:
    """(turns, colourings) of "8x4", or of a number: up to 8 turns, beyond that 8 turns and whole colourings."""
    first, cross, second = text.partition("x")
    try:
        numbers = (int(first), int(second)) if cross else (min(int(first), 8), max(1, int(first) // 8))
        whole = bool(cross) or int(first) <= 8 or int(first) % 8 == 0
    except ValueError:
        numbers, whole = (0, 0), False
    if not whole or not 1 <= numbers[0] <= 8 or not 1 <= numbers[1] <= NUM_COLORS**2:
        raise InputError(f"--views must be 1 to 8, a multiple of 8, or TURNSxCOLOURINGS such as 8x4; got {text}")
    return numbers


def budget_of(args: argparse.Namespace) -> Budget:
    """What the command line lets a solver spend."""
    turns, colorings = parse_views(args.views)
    seconds, programs = args.seconds_per_task, args.programs_per_task
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"--seconds-per-task must be above 0; got {seconds}")
    if programs is not None and programs < 1:
        raise InputError(f"--programs-per-task must be at least 1; got {programs}")
    return Budget(
        turns, colorings, seconds, programs, seed=args.seed, device=args.device, use_best_step=args.use_best_step
    )


def compare(args: argparse.Namespace, console: Console) -> int:
    """The command; 1 if a method that was there failed."""
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit must be at least 1; got {args.limit}")
    budget = budget_of(args)
    root = workspace_folder()
    whole = load_evaluation(args.data)
    tasks = whole[: args.limit]
    protocol = make_protocol(args.data, args.limit, tasks, budget)
    methods = open_methods(args.methods or [], root / "runs", args.device, tasks, whole)
    excluded = left_out([method.row for method in methods], tasks, args.allow_overlap)
    scored = [task for task in tasks if task.task_id not in excluded]
    folder = Path(args.out) if args.out else root / "results" / protocol.folder_name
    console.print(
        f"{args.data}: {len(scored)} tasks, two attempts a test input, {budget.dihedral_views} turns x "
        f"{budget.color_views} colourings\nwriting to {show_path(folder)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    fresh = [method.row.method for method in methods] if args.fresh else []
    header = header_of(protocol, excluded, args.allow_overlap, args.device)
    with PredictionStore(folder / "predictions.jsonl", fresh) as store:
        try:
            for method in methods:
                run_method(method, scored, budget, store, console)
        except KeyboardInterrupt:
            console.print("what is solved is kept; the same command goes on")
            raise
        finally:
            comparison = compare_rows(header, [m.row for m in methods], _stored(methods, store), scored)
            write_json(folder / "results.json", comparison.results)
    if not comparison.judged:
        raise InputError(
            "no method could answer: " + "; ".join(f"{row.label}: {row.note}" for row in comparison.unscored)
        )
    write_outputs(folder, comparison, tasks)
    show(comparison, console)
    console.print(
        f"results in {show_path(folder / 'results.json')}\nnext: open {show_path(folder / 'report.html')} in a browser",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 1 if any(_failed(method) for method in methods) else 0


def _failed(method: Method) -> bool:
    return method.opened is not None and bool(method.row.note or method.row.errors)


def _stored(methods: Sequence[Method], store: PredictionStore) -> dict[str, Lines]:
    return {method.row.label: store.of(method.row.method, method.row.checkpoint_key) for method in methods}


def header_of(protocol: Protocol, excluded: Sequence[str], allow_overlap: bool, device: str) -> dict[str, Any]:
    """What results.json says of the comparison itself."""
    budget = protocol.budget
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "protocol": asdict(protocol) | {"key": protocol.key, "attempts": ATTEMPTS, "views": budget.views},
        "environment": environment(str(solving_device(device))),
        "left_out_for_overlap": list(excluded), "overlap_allowed": allow_overlap,
    }  # fmt: skip


def write_outputs(folder: Path, comparison: Comparison, tasks: Sequence[Task]) -> None:
    """Writes the report, and a submission for every method.

    Args:
        tasks: that a submission must answer; those left out of the comparison stay blank.
    """
    submissions = folder / "submissions"
    submissions.mkdir(parents=True, exist_ok=True)
    for one in comparison.judged:
        write_submission(submissions / f"{file_name(one.row.label)}.json", submission_of(one.lines, tasks), tasks)
    write_report(folder / "report.html", comparison)


def file_name(label: str) -> str:
    """A label as the name of a file."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in label).strip(".-") or "method"
