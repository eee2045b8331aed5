"""The commands `eval score`, `eval report` and `eval submission`, which work on stored answers."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arc_core.config import workspace_folder
from arc_core.errors import InputError
from arc_core.files import show_path, write_json
from arc_core.task import Task
from arc_eval.compare import file_name, parse_budget
from arc_eval.evaluation_set import load_evaluation_set
from arc_eval.methods import open_methods
from arc_eval.protocol import make_protocol
from arc_eval.report.build import write_report
from arc_eval.runner import run_method
from arc_eval.storage.prediction_store import PredictionStore, group_by_checkpoint, read_records
from arc_eval.storage.records import Records
from arc_eval.storage.results import Comparison, compare_methods, parse_methods, read_results
from arc_eval.storage.submission import make_submission, write_submission
from arc_eval.table import print_comparison


def load_comparison(folder: Path) -> tuple[Comparison, Sequence[Task]]:
    """Loads a stored comparison, scores it anew, and returns it with all tasks of its protocol.

    Raises:
        InputError: a file is missing or damaged, or the data has changed since it was answered.
    """
    results = read_results(folder / "results.json")
    protocol, methods = results["protocol"], parse_methods(results)
    evaluation = load_evaluation_set(protocol["data"], protocol["limit"])
    if evaluation.fingerprint != protocol["fingerprint"]:
        raise InputError(
            f"{folder} holds answers to other tasks: {protocol['data']} had fingerprint {protocol['fingerprint']}, now "
            f"it has {evaluation.fingerprint}"
        )
    by_checkpoint = group_by_checkpoint(read_records(folder / "predictions.jsonl")[0])
    stored: dict[str, Records] = {
        info.label: by_checkpoint.get((info.method, info.checkpoint_key), {}) for info in methods
    }
    excluded = set(results["left_out_for_overlap"])
    header_keys = ("date", "commit", "protocol", "environment", "left_out_for_overlap", "overlap_allowed")
    header = {name: results[name] for name in header_keys}
    scored = [task for task in evaluation.tasks if task.task_id not in excluded]
    comparison = compare_methods(header, methods, stored, scored)
    if not comparison.scored:
        raise InputError(f"{folder / 'predictions.jsonl'} holds no answer of the methods in results.json")
    return comparison, evaluation.tasks


def score(args: argparse.Namespace, console: Console) -> int:
    """Scores a comparison's folder anew, or submissions against a data spec."""
    paths = [Path(path) for path in args.paths]
    if len(paths) == 1 and paths[0].is_dir():
        comparison, _ = load_comparison(paths[0])
        write_json(paths[0] / "results.json", comparison.results)
        print_comparison(comparison, console)
        return 0
    evaluation = load_evaluation_set(args.data)
    methods = open_methods([f"submission:{path}" for path in paths], Path(), "cpu", evaluation)
    stored: dict[str, Records] = {
        method.info.label: {record["task_id"]: record for record in method.records} for method in methods
    }
    header: dict[str, object] = {"left_out_for_overlap": [], "overlap_allowed": False}
    comparison = compare_methods(header, [method.info for method in methods], stored, evaluation.tasks)
    print_comparison(comparison, console)
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
    """Writes a Kaggle submission from stored answers, or from a method that solves the tasks now."""
    if args.folder is not None:
        comparison, tasks = load_comparison(Path(args.folder))
        by_label = {method.info.label: method.records for method in comparison.scored}
        if args.method not in by_label:
            raise InputError(f"--method must be one of {', '.join(by_label)}; got {args.method}")
        out = Path(args.out or f"{file_name(args.method)}.json")
        return _write(out, by_label[args.method], tasks, console)
    evaluation = load_evaluation_set(args.data, require_answers=False)
    budget = parse_budget(args)
    root = workspace_folder()
    (method,) = open_methods([args.method], root / "runs", args.device, evaluation)
    folder = root / "results" / make_protocol(evaluation, budget).folder_name
    where = f"{args.data}: {len(evaluation.tasks)} tasks; answers are kept in {show_path(folder)}"
    console.print(where, highlight=False, soft_wrap=True)
    with PredictionStore(folder / "predictions.jsonl") as store:
        run_method(method, evaluation.tasks, budget, store, console)
        records = store.records(method.info.method, method.info.checkpoint_key)
        status = _write(Path(args.out or "submission.json"), records, evaluation.tasks, console)
    return 1 if method.info.errors or method.info.note else status


def _write(out: Path, records: Records, tasks: Sequence[Task], console: Console) -> int:
    """Writes a submission and says how many of its tasks stay blank."""
    write_submission(out, make_submission(records, tasks), tasks)
    empty = sum(
        task.task_id not in records or not any(answers["grids"] for answers in records[task.task_id]["candidates"])
        for task in tasks
    )
    console.print(
        f"wrote {show_path(out)}: {len(tasks)} tasks, {empty} of them without an answer, which stay blank",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0
