"""A comparison on the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from arc_eval.scoring.ensemble import LABEL
from arc_eval.storage.results import Comparison


def show(comparison: Comparison, console: Console) -> None:
    """The table of scores, what is known of differences, and every note."""
    results = comparison.results
    methods = [method for method in results["methods"] if method["scores"]]
    _show_scores(comparison, methods, console)
    _show_degenerate(methods, len(comparison.tasks), console)
    _show_pairs(results["pairs"], methods, console)
    _show_sets(results["solved_sets"], len(comparison.tasks), console)
    for method in results["methods"]:
        if method["note"]:
            _say(console, f"{method['label']}: {method['note']}")
        if method["errors"]:
            failed = ", ".join(sorted(method["errors"])[:5])
            _say(console, f"{method['label']}: failed on {len(method['errors'])} tasks, which count as wrong: {failed}")
    excluded = results["left_out_for_overlap"]
    if excluded:
        _say(
            console,
            f"left out, because a method's training data holds them: {', '.join(excluded)} "
            f"({len(excluded)} of {len(comparison.tasks) + len(excluded)} tasks)",
        )


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def seconds(value: float) -> str:
    """Seconds a task, to two digits."""
    return "<0.01" if value < 0.01 else f"{value:.2f}" if value < 1 else f"{value:.1f}"


def count(value: float) -> str:
    """A mean number of things, a dash for none."""
    return f"{value:,.0f}" if value else "-"


def percent_interval(interval: tuple[float, float], between: str = "-") -> str:
    """An interval of shares as "1.5-3.0", in percent."""
    return f"{100 * interval[0]:.1f}{between}{100 * interval[1]:.1f}"


def _show_scores(comparison: Comparison, methods: list[dict], console: Console) -> None:  # type: ignore[type-arg]
    names = ["score", "95%", "solved", "@1", "s/task", "programs", "passes"]
    columns = [Column(name, no_wrap=True, justify="right") for name in names]
    first = Column("method", overflow="fold", min_width=18)
    table = Table(first, *columns, box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    tasks, allowed = len(comparison.tasks), comparison.results["overlap_allowed"]
    for one, method in zip(comparison.judged, methods, strict=True):
        scores, overlap = method["scores"], one.row.overlap
        seen = bool(overlap) and allowed
        mark = f" ({len(overlap)} tasks seen in training)" if seen else ""
        mark += " (overlap unknown)" if method["unchecked"] or method["training_data"] is None else ""
        mark += " (transductive)" if method["transductive_tasks"] else ""
        mark += f" ({scores['answered']} tasks answered)" if scores["answered"] < tasks else ""
        table.add_row(
            escape(method["label"] + mark), f"{100 * scores['score']:.2f}", percent_interval(scores["score_95"]),
            f"{scores['solved']}/{tasks}", f"{100 * scores['pass_at']['1']:.1f}",
            seconds(scores["seconds_per_task"]), count(scores["programs_per_task"]),
            count(scores["forward_passes_per_task"]), style="red" if seen else None,
        )  # fmt: skip
    console.print(table)
    _say(
        console,
        "score: percent, mean over tasks of the test inputs right in two attempts; 95%: bootstrap over tasks; @1: of "
        "the tasks those solved at the first attempt; programs, passes: tested and run through a network, a task",
    )


def _show_degenerate(methods: list[dict], tasks: int, console: Console) -> None:  # type: ignore[type-arg]
    """What an interval without width hides."""
    alike = next((m["scores"] for m in methods if m["scores"]["score_95"][0] == m["scores"]["score_95"][1]), None)
    if alike is not None:
        low, high = (100 * bound for bound in alike["solved_95"])
        _say(
            console,
            f"an interval without width says only that all tasks came out alike: {alike['solved']} of {tasks} solved "
            f"goes with {low:.1f} to {high:.1f} percent (Wilson)",
        )


def _show_pairs(pairs: list[dict], methods: list[dict], console: Console) -> None:  # type: ignore[type-arg]
    """The best method against each of the others."""
    best = next((method["label"] for method in methods if method["method"] != LABEL), None)
    for pair in (pair for pair in pairs if pair["first"] == best):
        low, high = (100 * bound for bound in pair["difference_95"])
        _say(
            console,
            f"{best} - {pair['second']}: {100 * pair['difference']:+.2f} points [{low:+.1f}, {high:+.1f}], "
            f"McNemar p {pair['p_holm']:.2g} (Holm over {len(pairs)} pairs)",
        )


def _show_sets(sets: dict, tasks: int, console: Console) -> None:  # type: ignore[type-arg]
    if len(sets["only"]) > 1:
        alone = ", ".join(f"{label} {len(ids)}" for label, ids in sets["only"].items() if ids) or "no method"
        _say(console, f"solved by any method: {sets['by_any']} of {tasks}; alone by: {alone}")
