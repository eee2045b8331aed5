"""The command `eval compare`: scores every method under one protocol and resumes where it was interrupted."""

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
from arc_eval.evaluation_set import load_evaluation_set
from arc_eval.methods import Method, open_methods
from arc_eval.protocol import Protocol, describe_environment, find_excluded_tasks, make_protocol
from arc_eval.report.build import write_report
from arc_eval.runner import run_method
from arc_eval.storage.prediction_store import PredictionStore
from arc_eval.storage.records import Records
from arc_eval.storage.results import Comparison, compare_methods
from arc_eval.storage.submission import make_submission, write_submission
from arc_eval.table import print_comparison


def parse_views(text: str) -> tuple[int, int]:
    """Parses the value of --views to (dihedral views, colour permutations).

    Args:
        text: both numbers, such as "8x4"; or their product, which is 1 to 8 dihedral views, or a multiple of 8.
    Raises:
        InputError: the text is neither, or a number is out of range.
    """
    first, cross, second = text.partition("x")
    try:
        numbers = (int(first), int(second)) if cross else (min(int(first), 8), max(1, int(first) // 8))
        is_product = bool(cross) or int(first) <= 8 or int(first) % 8 == 0
    except ValueError:
        numbers, is_product = (0, 0), False
    if not is_product or not 1 <= numbers[0] <= 8 or not 1 <= numbers[1] <= NUM_COLORS**2:
        raise InputError(f"--views must be 1 to 8, a multiple of 8, or TURNSxCOLOURINGS such as 8x4; got {text}")
    return numbers


def parse_budget(args: argparse.Namespace) -> Budget:
    """Returns what the command line lets a solver spend.

    Raises:
        InputError: a number is out of range.
    """
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
    """Runs the command and returns its exit status: 1 if a method that could be opened failed."""
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit must be at least 1; got {args.limit}")
    budget = parse_budget(args)
    root = workspace_folder()
    evaluation = load_evaluation_set(args.data, args.limit)
    protocol = make_protocol(evaluation, budget)
    methods = open_methods(args.methods or [], root / "runs", args.device, evaluation)
    excluded = find_excluded_tasks([method.info for method in methods], evaluation.tasks, args.allow_overlap)
    scored = [task for task in evaluation.tasks if task.task_id not in excluded]
    folder = Path(args.out) if args.out else root / "results" / protocol.folder_name
    console.print(
        f"{args.data}: {len(scored)} tasks, two attempts a test input, {budget.dihedral_views} turns x "
        f"{budget.color_views} colourings\nwriting to {show_path(folder)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    forget = [method.info.method for method in methods] if args.fresh else []
    header = make_header(protocol, excluded, args.allow_overlap, args.device)
    with PredictionStore(folder / "predictions.jsonl", forget) as store:
        try:
            for method in methods:
                run_method(method, scored, budget, store, console)
        except KeyboardInterrupt:
            console.print("what is solved is kept; the same command goes on")
            raise
        finally:
            infos = [method.info for method in methods]
            comparison = compare_methods(header, infos, _records_by_label(methods, store), scored)
            write_json(folder / "results.json", comparison.results)
    if not comparison.scored:
        raise InputError(
            "no method could answer: " + "; ".join(f"{info.label}: {info.note}" for info in comparison.unscored)
        )
    write_outputs(folder, comparison, evaluation.tasks)
    print_comparison(comparison, console)
    console.print(
        f"results in {show_path(folder / 'results.json')}\nnext: open {show_path(folder / 'report.html')} in a browser",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 1 if any(_has_failed(method) for method in methods) else 0


def _has_failed(method: Method) -> bool:
    return method.opened is not None and bool(method.info.note or method.info.errors)


def _records_by_label(methods: Sequence[Method], store: PredictionStore) -> dict[str, Records]:
    return {method.info.label: store.records(method.info.method, method.info.checkpoint_key) for method in methods}


def make_header(protocol: Protocol, excluded: Sequence[str], allow_overlap: bool, device: str) -> dict[str, Any]:
    """Returns what results.json says about the comparison itself.

    Args:
        protocol: conditions that are the same for every method.
        excluded: ids of tasks that no method is scored on, because training data holds them.
        allow_overlap: whether such tasks are scored nevertheless.
        device: "auto", "cpu", "cuda" or "mps", the device that was asked for.
    """
    budget = protocol.budget
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "protocol": asdict(protocol) | {"key": protocol.key, "attempts": ATTEMPTS, "views": budget.views},
        "environment": describe_environment(str(solving_device(device))),
        "left_out_for_overlap": list(excluded), "overlap_allowed": allow_overlap,
    }  # fmt: skip


def write_outputs(folder: Path, comparison: Comparison, tasks: Sequence[Task]) -> None:
    """Writes the report, and a submission for every method.

    Args:
        folder: the comparison's folder.
        comparison: the scored methods.
        tasks: the tasks that a submission must answer; those excluded from the comparison stay blank.
    """
    submissions = folder / "submissions"
    submissions.mkdir(parents=True, exist_ok=True)
    for method in comparison.scored:
        answers = make_submission(method.records, tasks)
        write_submission(submissions / f"{file_name(method.info.label)}.json", answers, tasks)
    write_report(folder / "report.html", comparison)


def file_name(label: str) -> str:
    """Returns a method's label with every character that a file name should not hold replaced."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in label).strip(".-") or "method"
