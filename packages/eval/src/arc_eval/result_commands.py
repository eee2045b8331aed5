"""`eval score`, `eval report` and `eval submission`: what can be done with answers that are there already."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arc_core.config import workspace_folder
from arc_core.datasets import fingerprint
from arc_core.errors import InputError
from arc_core.files import show_path, write_json
from arc_core.task import Task
from arc_eval.compare import budget_of, file_name
from arc_eval.methods import open_methods
from arc_eval.protocol import load_evaluation, make_protocol
from arc_eval.report.build import write_report
from arc_eval.runner import run_method
from arc_eval.storage.prediction_store import PredictionStore, by_method, read_lines
from arc_eval.storage.records import Lines
from arc_eval.storage.results import Comparison, compare_rows, read_results, rows_of
from arc_eval.storage.submission import submission_of, write_submission
from arc_eval.table import show


def load_comparison(folder: Path) -> tuple[Comparison, list[Task]]:
    """A stored comparison, judged anew, and all tasks of its protocol.

    Raises:
        InputError: a file is missing or damaged, or the data is no longer what was answered.
    """
    results = read_results(folder / "results.json")
    protocol, rows = results["protocol"], rows_of(results)
    tasks = load_evaluation(protocol["data"])[: protocol["limit"]]
    if fingerprint(tasks) != protocol["fingerprint"]:
        raise InputError(
            f"{folder} holds answers to other tasks: {protocol['data']} had fingerprint {protocol['fingerprint']}, now "
            f"it has {fingerprint(tasks)}"
        )
    found = by_method(read_lines(folder / "predictions.jsonl")[0])
    stored: dict[str, Lines] = {row.label: found.get((row.method, row.checkpoint_key), {}) for row in rows}
    excluded = set(results["left_out_for_overlap"])
    kept = ("date", "commit", "protocol", "environment", "left_out_for_overlap", "overlap_allowed")
    header = {name: results[name] for name in kept}
    comparison = compare_rows(header, rows, stored, [task for task in tasks if task.task_id not in excluded])
    if not comparison.judged:
        raise InputError(f"{folder / 'predictions.jsonl'} holds no answer of the methods in results.json")
    return comparison, tasks


def score(args: argparse.Namespace, console: Console) -> int:
    """Scores a comparison's folder anew, or submissions against a data spec."""
    paths = [Path(path) for path in args.paths]
    if len(paths) == 1 and paths[0].is_dir():
        comparison, _ = load_comparison(paths[0])
        write_json(paths[0] / "results.json", comparison.results)
        show(comparison, console)
        return 0
    whole = load_evaluation(args.data)
    methods = open_methods([f"submission:{path}" for path in paths], Path(), "cpu", whole, whole)
    stored: dict[str, Lines] = {
        method.row.label: {line["task_id"]: line for line in method.lines} for method in methods
    }
    header: dict[str, object] = {"left_out_for_overlap": [], "overlap_allowed": False}
    show(compare_rows(header, [method.row for method in methods], stored, whole), console)
    return 0


def report(args: argparse.Namespace, console: Console) -> int:
    """Writes the report of a stored comparison."""
    folder = Path(args.folder)
    comparison, _ = load_comparison(folder)
    out = Path(args.out) if args.out else folder / "report.html"
    write_report(out, comparison)
    size = out.stat().st_size / 2**20
    console.print(f"wrote {show_path(out)} ({size:.1f} MiB); open it in a browser", highlight=False, soft_wrap=True)
    return 0


def submission(args: argparse.Namespace, console: Console) -> int:
    """Writes a Kaggle submission from stored answers, or from a method that is asked now."""
    if args.folder is not None:
        comparison, tasks = load_comparison(Path(args.folder))
        found = {one.row.label: one.lines for one in comparison.judged}
        if args.method not in found:
            raise InputError(f"--method must be one of {', '.join(found)}; got {args.method}")
        out = Path(args.out or f"{file_name(args.method)}.json")
        return _write(out, found[args.method], tasks, console)
    tasks = load_evaluation(args.data, answers=False)
    budget = budget_of(args)
    root = workspace_folder()
    (method,) = open_methods([args.method], root / "runs", args.device, tasks, tasks)
    folder = root / "results" / make_protocol(args.data, None, tasks, budget).folder_name
    where = f"{args.data}: {len(tasks)} tasks; answers are kept in {show_path(folder)}"
    console.print(where, highlight=False, soft_wrap=True)
    with PredictionStore(folder / "predictions.jsonl") as store:
        run_method(method, tasks, budget, store, console)
        lines = store.of(method.row.method, method.row.checkpoint_key)
        status = _write(Path(args.out or "submission.json"), lines, tasks, console)
    return 1 if method.row.errors or method.row.note else status


def _write(out: Path, lines: Lines, tasks: Sequence[Task], console: Console) -> int:
    write_submission(out, submission_of(lines, tasks), tasks)
    empty = sum(
        task.task_id not in lines or not any(one["grids"] for one in lines[task.task_id]["candidates"])
        for task in tasks
    )
    console.print(
        f"wrote {show_path(out)}: {len(tasks)} tasks, {empty} of them without an answer, which stay blank",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0
