"""The command `arc-data`: inspects, draws and validates data sets and tasks."""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from arc_core.datasets import fingerprint, load_tasks, overlap
from arc_core.errors import EXIT_BAD_INPUT, InputError, run_command
from arc_core.files import write_atomically, write_text
from arc_core.grid import NUM_COLORS
from arc_core.render import COLOR_NAMES, PALETTE, task_to_png, task_to_svg, task_to_text
from arc_core.task import Task, TaskError, read_task

_EXAMPLES = """examples:
  uv run arc-data show arc1:train/c3e719e8
  uv run arc-data stats arc1:eval
  uv run arc-data render arc1:train/c3e719e8 --out task.svg
  uv run arc-data overlap arc1:eval arc2:train

A SPEC is arc1:train, arc1:eval, arc2:train, arc2:eval, dir:PATH, kaggle:CHALLENGES[,SOLUTIONS] or manifest:FILE.jsonl,
joined by +. A SPEC/ID names one task of it.
"""


def find_task(reference: str) -> Task:
    """Loads the task that `SPEC/ID` names.

    Raises:
        InputError: there is no such task.
    """
    spec, slash, task_id = reference.rpartition("/")
    if not slash or not spec or not task_id:
        raise InputError(f"a task is named SPEC/ID, such as arc1:train/c3e719e8; got {reference}")
    for task in load_tasks(spec):
        if task.task_id == task_id:
            return task
    raise InputError(f"{spec} has no task {task_id}; uv run arc-data list {spec} shows what it has")


def _format_range(values: Sequence[int]) -> str:
    return f"{min(values)}..{max(values)}" if min(values) != max(values) else str(min(values))


def _list(args: argparse.Namespace, console: Console) -> int:
    table = Table("task", "train", "test", "input sides", "output sides", "colours", "answers")
    for task in load_tasks(args.spec):
        pairs = task.train + task.test
        grids = [p.input for p in pairs] + [p.output for p in pairs if p.output is not None]
        table.add_row(
            task.task_id,
            str(len(task.train)),
            str(len(task.test)),
            _format_range([side for pair in pairs for side in pair.input.shape]),
            _format_range([side for pair in pairs if pair.output is not None for side in pair.output.shape]),
            str(len(set().union(*(np.unique(grid).tolist() for grid in grids)))),
            "yes" if task.has_answers else "withheld",
        )
    console.print(table)
    return 0


def _stats(args: argparse.Namespace, console: Console) -> int:
    tasks = load_tasks(args.spec)
    pairs = [pair for task in tasks for pair in task.train + task.test]
    inputs = [pair.input for pair in pairs]
    outputs = [pair.output for pair in pairs if pair.output is not None]
    same = sum(pair.output is not None and pair.input.shape == pair.output.shape for pair in pairs)
    table = Table("", "total", "mean a task", "range", title=f"{args.spec}  (fingerprint {fingerprint(tasks)})")
    table.add_row("tasks", f"{len(tasks):,}")
    for name, counts in (
        ("demonstrations", [len(task.train) for task in tasks]),
        ("test inputs", [len(task.test) for task in tasks]),
    ):
        table.add_row(name, f"{sum(counts):,}", f"{np.mean(counts):.2f}", _format_range(counts))
    for name, grids in (("input", inputs), ("output", outputs)):
        for axis, side in enumerate(("height", "width")):
            sides = [grid.shape[axis] for grid in grids]
            if sides:
                table.add_row(f"{name} {side}", "", f"{np.mean(sides):.1f}", _format_range(sides))
    table.add_row("pairs of one size in and out", f"{same:,}", f"{same / max(len(outputs), 1):.0%} of pairs", "")
    console.print(table)
    cells = np.sum([np.bincount(grid.ravel(), minlength=NUM_COLORS) for grid in inputs + outputs], axis=0)
    colors = Table("colour", "name", "share of cells", "")
    for color, count in enumerate(cells):
        share = count / cells.sum()
        bar = f"[{PALETTE[color]}]{'█' * round(40 * share)}[/]" if color else "█" * round(40 * share)
        colors.add_row(str(color), COLOR_NAMES[color], f"{share:.1%}", bar)
    console.print(colors)
    longest = [max(pair.input.shape + (() if pair.output is None else pair.output.shape)) for pair in pairs]
    histogram = Counter(-(-side // 5) * 5 for side in longest)
    ranges = ", ".join(f"{top - 4}..{top}: {histogram[top]}" for top in sorted(histogram))
    console.print(f"pairs by longest side: {ranges}")
    return 0


def _show(args: argparse.Namespace, console: Console) -> int:
    task = find_task(args.task)
    color = console.color_system is not None and not args.digits
    console.print(f"{task.task_id}: {len(task.train)} demonstrations, {len(task.test)} tests", style="bold")
    console.print(task_to_text(task, color, console.width, not args.no_answers), crop=False)
    return 0


def _render(args: argparse.Namespace, console: Console) -> int:
    task = find_task(args.task)
    out = Path(args.out or f"{task.task_id}.svg")
    if out.suffix not in (".svg", ".png"):
        raise InputError(f"--out must end in .svg or .png; got {out}")
    try:
        if out.suffix == ".svg":
            write_text(out, task_to_svg(task, not args.no_answers))
        else:
            picture = task_to_png(task, not args.no_answers)
            write_atomically(out, lambda file: file.write(picture))
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}") from None
    console.print(f"wrote {out}", soft_wrap=True)
    return 0


def _validate(args: argparse.Namespace, console: Console) -> int:
    path = Path(args.path)
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if path.suffix == ".jsonl":
        return _validate_spec(f"manifest:{path}", console)
    if not files:
        raise InputError(f"{path} holds no .json file")
    faults = 0
    for file in files:
        try:
            read_task(file)
        except TaskError as error:
            if len(files) == 1 and _is_task_set(file):
                return _validate_spec(f"kaggle:{file}", console)
            faults += 1
            console.print(str(error), style="red", markup=False, soft_wrap=True)
    console.print(f"{len(files) - faults} of {len(files)} files hold a valid task")
    return EXIT_BAD_INPUT if faults else 0


def _is_task_set(path: Path) -> bool:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and not {"train", "test"} & value.keys()


def _validate_spec(spec: str, console: Console) -> int:
    console.print(f"{len(load_tasks(spec))} valid tasks in {spec}")
    return 0


def _overlap(args: argparse.Namespace, console: Console) -> int:
    first, second = load_tasks(args.first), load_tasks(args.second)
    shared = overlap(first, second)
    table = Table("tasks of", "also in", "by id", "by content", "by either", "of")
    counts = (len(shared.by_id), len(shared.by_content), len(shared.any), len(first))
    table.add_row(args.first, args.second, *map(str, counts))
    console.print(table)
    if shared.any:
        more = f", and {len(shared.any) - 20} more" if len(shared.any) > 20 else ""
        console.print(", ".join(shared.any[:20]) + more)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "arc-data", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, help_text: str, run: Callable[[argparse.Namespace, Console], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.set_defaults(run=run)
        return command

    add("list", "one line a task", _list).add_argument("spec")
    add("stats", "sizes, colours and pairs of a data set", _stats).add_argument("spec")
    show = add("show", "draw a task in the terminal", _show)
    show.add_argument("task", metavar="SPEC/ID")
    show.add_argument("--digits", action="store_true", help="digits instead of colours")
    render = add("render", "draw a task as SVG or PNG", _render)
    render.add_argument("task", metavar="SPEC/ID")
    render.add_argument("--out", metavar="FILE", help="ends in .svg (default) or .png")
    for command in (show, render):
        command.add_argument("--no-answers", action="store_true", help="leave the test outputs out")
    add("validate", "check a file or every .json below a folder", _validate).add_argument("path")
    both = add("overlap", "which tasks of FIRST also stand in SECOND", _overlap)
    both.add_argument("first")
    both.add_argument("second")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `arc-data` and returns its exit status."""
    args = _parser().parse_args(argv)
    return run_command(lambda: int(args.run(args, Console(emoji=False))))


if __name__ == "__main__":
    raise SystemExit(main())
