"""Builds report.html, one file that fetches nothing and shows a comparison down to every grid."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from arc_core.files import write_text
from arc_core.grid import Grid, grid_to_text
from arc_core.render import COLOR_NAMES, PALETTE
from arc_core.scoring import ATTEMPTS
from arc_core.task import Task
from arc_eval.report.plots import draw_plots, method_color
from arc_eval.scoring.breakdown import keeps_size, size_bucket
from arc_eval.scoring.ensemble import VOTE
from arc_eval.storage.results import Comparison, ScoredMethod
from arc_eval.table import format_count, format_percent_interval, format_seconds


def write_report(path: Path, comparison: Comparison) -> None:
    """Writes the report; see `render_report`."""
    write_text(path, render_report(comparison))


def render_report(comparison: Comparison) -> str:
    """Renders the report as one HTML page with its style, its script and its data."""
    results = comparison.results
    methods = [method for method in results["methods"] if method["scores"]]
    folder = Path(__file__).parent
    page = Environment(
        loader=PackageLoader("arc_eval.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    ).get_template("report.html.j2")  # fmt: skip
    infos = [*(method.info for method in comparison.scored), *comparison.unscored]
    overlaps = {info.label: info.overlap for info in infos}
    return page.render(
        results=results, methods=methods, overlaps=overlaps, vote=VOTE,
        colors={method["label"]: method_color(index) for index, method in enumerate(methods)},
        plots=[(caption, Markup(svg)) for caption, svg in draw_plots(methods)],
        tasks=[_task_row(task, index, comparison) for index, task in enumerate(comparison.tasks)],
        data=Markup(_embed_data(comparison)),
        style=Markup((folder / "report.css").read_text(encoding="utf-8")),
        script=Markup((folder / "report.js").read_text(encoding="utf-8")),
        format_percent_interval=format_percent_interval, format_seconds=format_seconds, format_count=format_count,
    )  # fmt: skip


def _task_row(task: Task, index: int, comparison: Comparison) -> dict[str, Any]:
    """Returns a task's row in the table: its kind, and the share of its test inputs that each method has right."""
    scores = [
        float(sum(rank <= ATTEMPTS for rank in method.ranks.ranks[index]) / len(task.test))
        for method in comparison.scored
    ]
    return {
        "id": task.task_id, "size": size_bucket(task), "same": keeps_size(task), "demonstrations": len(task.train),
        "tests": len(task.test), "concept": task.concept or "", "scores": scores,
        "solvers": sum(
            score == 1 for score, method in zip(scores, comparison.scored, strict=True) if method.info.method != VOTE
        ),
    }  # fmt: skip


def _grid_text(grid: Grid | None) -> str | None:
    return None if grid is None else grid_to_text(grid)


def _embed_data(comparison: Comparison) -> str:
    """Returns the data that the script draws tasks from, as JSON that cannot end the element that it stands in."""
    value = {
        "palette": PALETTE,
        "colors": COLOR_NAMES,
        "tasks": {
            task.task_id: {
                "train": [[_grid_text(pair.input), _grid_text(pair.output)] for pair in task.train],
                "test": [[_grid_text(pair.input), _grid_text(pair.output)] for pair in task.test],
            }
            for task in comparison.tasks
        },
        "methods": [
            {"label": method.info.label, "vote": method.info.method == VOTE, "answers": _answers_by_task(method)}
            for method in comparison.scored
        ],
    }
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _answers_by_task(method: ScoredMethod) -> dict[str, Any]:
    """Returns the attempts at every test input and the seconds by task id, or the error where the task failed."""
    attempts_by_task: dict[str, Any] = {
        task_id: {
            "seconds": record["seconds"],
            "tests": [
                [list(attempt) for attempt in zip(
                    answers["grids"][:ATTEMPTS], answers["votes"],
                    [round(confidence, 3) for confidence in answers["confidences"][:ATTEMPTS]], answers["explanations"],
                    strict=False,
                )]
                for answers in record["candidates"]
            ],
        }
        for task_id, record in method.records.items()
    }  # fmt: skip
    return attempts_by_task | {task_id: {"error": message} for task_id, message in method.info.errors.items()}
