"""`eval`: scores and compares ARC solvers."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from arc_core.config import workspace_folder
from arc_core.errors import InputError, run_command
from arc_core.files import show_path, write_json
from arc_core.grid import NUM_COLORS
from arc_core.runs import git_commit
from arc_core.solver import Budget
from arc_eval.compare import Method, open_methods, results_json, run_method
from arc_eval.protocol import left_out, load_evaluation, make_protocol
from arc_eval.store import PredictionStore

_EXAMPLES = """examples:
  uv run eval compare --limit 40
  uv run eval compare --data dir:ConceptARC/corpus --views 8x1
  uv run eval compare --methods rlan=runs/rlan/quick-20260102-030405 identity

An interrupted comparison continues when the same command is given again.
"""

_SHOWN = (1, 2, 5, 10)  # of pass@k, in the table; results.json has more


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


def _compare(args: argparse.Namespace, console: Console) -> int:
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit must be at least 1; got {args.limit}")
    turns, colorings = parse_views(args.views)
    if args.seconds_per_task is not None and not 0 < args.seconds_per_task < float("inf"):
        raise InputError(f"--seconds-per-task must be above 0; got {args.seconds_per_task}")
    budget = Budget(
        turns, colorings, args.seconds_per_task, seed=args.seed, device=args.device, use_best_step=args.use_best_step
    )
    root = workspace_folder()
    tasks = load_evaluation(args.data, args.limit)
    protocol = make_protocol(args.data, args.limit, tasks, budget)
    methods = open_methods(args.methods or [], root / "runs", args.device, tasks)
    excluded = left_out([(m.label, m.overlap) for m in methods], tasks, args.allow_overlap)
    scored = [task for task in tasks if task.task_id not in excluded]
    folder = Path(args.out) if args.out else root / "results" / protocol.folder_name
    console.print(
        f"{args.data}: {len(scored)} tasks, two attempts a test input, {turns} turns x {colorings} colourings\n"
        f"writing to {show_path(folder)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    with PredictionStore(folder / "predictions.jsonl", args.fresh) as store:
        try:
            for method in methods:
                run_method(method, scored, protocol, store, console)
        finally:
            results = results_json(protocol, methods, scored, excluded, git_commit())
            write_json(folder / "results.json", results)
    _show(console, methods, len(scored), excluded)
    console.print(f"results in {show_path(folder / 'results.json')}", highlight=False, soft_wrap=True)
    return 1 if any(m.opened is not None and m.note for m in methods) else 0


def _show(console: Console, methods: Sequence[Method], tasks: int, excluded: Sequence[str]) -> None:
    columns = ["solved", "score", *(f"@{k}" for k in _SHOWN), "s / task"]
    table = Table(Column("method", overflow="fold"), *(Column(name, no_wrap=True) for name in columns), box=SIMPLE_HEAD)
    ranked = sorted((m for m in methods if m.scores), key=lambda m: -(m.scores.score if m.scores else 0))
    for method in ranked:
        scores = method.scores
        assert scores is not None
        mark = f" ({len(method.overlap.any)} tasks seen in training)" if method.overlap.any and not excluded else ""
        table.add_row(
            method.label + mark,
            f"{scores.solved}/{scores.tasks}",
            f"{scores.score:.2%}",
            *(f"{100 * scores.passed[k]:.2f}" for k in _SHOWN),
            f"{scores.seconds_per_task:.2g}",
            style="red" if mark else None,
        )
    console.print(table)
    console.print("@k: pass@k, percent of the tasks with every test input right within k attempts")
    for method in methods:
        if method.note:
            console.print(f"{method.label}: {method.note}", markup=False, soft_wrap=True)
    if excluded:
        console.print(
            f"left out, because a method's training data holds them: {', '.join(excluded)} "
            f"({len(excluded)} of {tasks + len(excluded)} tasks)",
            soft_wrap=True, highlight=False,
        )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("eval", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    help_text = "score every installed method under one protocol"
    compare = commands.add_parser(
        "compare",
        help=help_text,
        description=help_text,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.set_defaults(run=_compare)
    compare.add_argument("--data", default="arc1:eval", metavar="SPEC", help="evaluation set (default arc1:eval)")
    compare.add_argument("--limit", type=int, metavar="N", help="only the first N tasks by id")
    compare.add_argument("--views", default="8x4", metavar="N|TxC", help="views a task (default 8x4, that is 32)")
    compare.add_argument(
        "--seconds-per-task", type=float, metavar="S", help="for methods that search (default: their own, 5 for dsl)"
    )
    compare.add_argument("--methods", nargs="+", metavar="NAME[=CHECKPOINT]", help="default: all installed")
    compare.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    compare.add_argument("--seed", type=int, default=0, help="of the colourings")
    compare.add_argument(
        "--use-best-step", action="store_true", help="recurrent solvers answer with the step that they are surest of"
    )
    compare.add_argument("--out", metavar="DIR", help="default results/<data>-<protocol>")
    compare.add_argument("--fresh", action="store_true", help="solve again what is stored")
    compare.add_argument(
        "--allow-overlap", action="store_true", help="score tasks that a method was trained on, and mark the result"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command `eval`."""
    args = _parser().parse_args(argv)
    return run_command(lambda: int(args.run(args, Console(emoji=False))))


if __name__ == "__main__":
    raise SystemExit(main())
