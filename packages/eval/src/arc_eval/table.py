"""Prints a comparison on the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from arc_eval.scoring.ensemble import VOTE
from arc_eval.storage.results import Comparison


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the table of scores, the differences between methods, and every note."""
    results = comparison.results
    methods = [method for method in results["methods"] if method["scores"]]
    _print_scores(comparison, methods, console)
    _print_degenerate(methods, len(comparison.tasks), console)
    _print_pairs(results["pairs"], methods, console)
    _print_sets(results["solved_sets"], len(comparison.tasks), console)
    for method in results["methods"]:
        if method["note"]:
            _print_line(console, f"{method['label']}: {method['note']}")
        if method["errors"]:
            failed = ", ".join(sorted(method["errors"])[:5])
            _print_line(
                console, f"{method['label']}: failed on {len(method['errors'])} tasks, which count as wrong: {failed}"
            )
    excluded = results["left_out_for_overlap"]
    if excluded:
        _print_line(
            console,
            f"left out, because a method's training data holds them: {', '.join(excluded)} "
            f"({len(excluded)} of {len(comparison.tasks) + len(excluded)} tasks)",
        )


def _print_line(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def format_seconds(value: float) -> str:
    """Formats a number of seconds with two significant digits."""
    return "<0.01" if value < 0.01 else f"{value:.2f}" if value < 1 else f"{value:.1f}"


def format_count(value: float) -> str:
    """Formats a mean number of things as a whole number, and 0 as a dash."""
    return f"{value:,.0f}" if value else "-"


def format_percent_interval(interval: tuple[float, float], separator: str = "-") -> str:
    """Formats an interval of shares, 0..1, in percent, such as "1.5-3.0"."""
    return f"{100 * interval[0]:.1f}{separator}{100 * interval[1]:.1f}"


def _print_scores(comparison: Comparison, methods: list[dict], console: Console) -> None:  # type: ignore[type-arg]
    names = ["score", "95%", "solved", "@1", "s/task", "programs", "passes"]
    columns = [Column(name, no_wrap=True, justify="right") for name in names]
    first = Column("method", overflow="fold", min_width=18)
    table = Table(first, *columns, box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    tasks, allowed = len(comparison.tasks), comparison.results["overlap_allowed"]
    for scored, method in zip(comparison.scored, methods, strict=True):
        scores, overlap = method["scores"], scored.info.overlap
        is_marked = bool(overlap) and allowed
        mark = f" ({len(overlap)} tasks seen in training)" if is_marked else ""
        mark += " (overlap unknown)" if method["unchecked"] or method["training_data"] is None else ""
        mark += " (transductive)" if method["transductive_tasks"] else ""
        mark += f" ({scores['answered']} tasks answered)" if scores["answered"] < tasks else ""
        table.add_row(
            escape(method["label"] + mark), f"{100 * scores['score']:.2f}", format_percent_interval(scores["score_95"]),
            f"{scores['solved']}/{tasks}", f"{100 * scores['pass_at']['1']:.1f}",
            format_seconds(scores["seconds_per_task"]), format_count(scores["programs_per_task"]),
            format_count(scores["forward_passes_per_task"]), style="red" if is_marked else None,
        )  # fmt: skip
    console.print(table)
    _print_line(
        console,
        "score: percent, mean over tasks of the test inputs right in two attempts; 95%: bootstrap over tasks; @1: of "
        "the tasks those solved at the first attempt; programs, passes: tested and run through a network, a task",
    )


def _print_degenerate(methods: list[dict], tasks: int, console: Console) -> None:  # type: ignore[type-arg]
    """Adds Wilson's interval where the bootstrap's has no width, because all tasks came out alike."""
    alike = next((m["scores"] for m in methods if m["scores"]["score_95"][0] == m["scores"]["score_95"][1]), None)
    if alike is not None:
        low, high = (100 * bound for bound in alike["solved_95"])
        _print_line(
            console,
            f"an interval without width says only that all tasks came out alike: {alike['solved']} of {tasks} solved "
            f"goes with {low:.1f} to {high:.1f} percent (Wilson)",
        )


def _print_pairs(pairs: list[dict], methods: list[dict], console: Console) -> None:  # type: ignore[type-arg]
    """Prints the difference between the best method and each of the others."""
    best = next((method["label"] for method in methods if method["method"] != VOTE), None)
    for pair in (pair for pair in pairs if pair["first"] == best):
        low, high = (100 * bound for bound in pair["difference_95"])
        _print_line(
            console,
            f"{best} - {pair['second']}: {100 * pair['difference']:+.2f} points [{low:+.1f}, {high:+.1f}], "
            f"McNemar p {pair['p_holm']:.2g} (Holm over {len(pairs)} pairs)",
        )


def _print_sets(sets: dict, tasks: int, console: Console) -> None:  # type: ignore[type-arg]
    if len(sets["only"]) > 1:
        alone = ", ".join(f"{label} {len(ids)}" for label, ids in sets["only"].items() if ids) or "no method"
        _print_line(console, f"solved by any method: {sets['by_any']} of {tasks}; alone by: {alone}")
