"""report.html: one file without anything to fetch, that shows a comparison down to every grid."""

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
from arc_eval.report.plots import color_of, plots
from arc_eval.scoring.breakdown import same_size, size_name
from arc_eval.scoring.ensemble import LABEL
from arc_eval.storage.results import Comparison, Judged
from arc_eval.table import count, percent_interval, seconds


def write_report(path: Path, comparison: Comparison) -> None:
    """Writes the report; see `render_report`."""
    write_text(path, render_report(comparison))


def render_report(comparison: Comparison) -> str:
    """The whole page."""
    results = comparison.results
    methods = [method for method in results["methods"] if method["scores"]]
    folder = Path(__file__).parent
    page = Environment(
        loader=PackageLoader("arc_eval.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    ).get_template("report.html.j2")  # fmt: skip
    rows = [*(one.row for one in comparison.judged), *comparison.unscored]
    overlaps = {row.label: row.overlap for row in rows}
    return page.render(
        results=results, methods=methods, overlaps=overlaps, vote=LABEL,
        colors={method["label"]: color_of(place) for place, method in enumerate(methods)},
        plots=[(caption, Markup(svg)) for caption, svg in plots(methods)],
        tasks=[_row(task, place, comparison) for place, task in enumerate(comparison.tasks)],
        data=Markup(_embedded(comparison)),
        style=Markup((folder / "report.css").read_text(encoding="utf-8")),
        script=Markup((folder / "report.js").read_text(encoding="utf-8")),
        percent_interval=percent_interval, seconds=seconds, count=count,
    )  # fmt: skip


def _row(task: Task, place: int, comparison: Comparison) -> dict[str, Any]:
    """A task in the table: what it is, and the share of its test inputs that each method has right."""
    scores = [
        float(sum(rank <= ATTEMPTS for rank in one.ranked.ranks[place]) / len(task.test)) for one in comparison.judged
    ]
    return {
        "id": task.task_id, "size": size_name(task), "same": same_size(task), "demonstrations": len(task.train),
        "tests": len(task.test), "concept": task.concept or "", "scores": scores,
        "solvers": sum(
            score == 1 for score, one in zip(scores, comparison.judged, strict=True) if one.row.method != LABEL
        ),
    }  # fmt: skip


def _text(grid: Grid | None) -> str | None:
    return None if grid is None else grid_to_text(grid)


def _embedded(comparison: Comparison) -> str:
    """What the script draws tasks from, as JSON that cannot end the element that it stands in."""
    value = {
        "palette": PALETTE,
        "colors": COLOR_NAMES,
        "tasks": {
            task.task_id: {
                "train": [[_text(pair.input), _text(pair.output)] for pair in task.train],
                "test": [[_text(pair.input), _text(pair.output)] for pair in task.test],
            }
            for task in comparison.tasks
        },
        "methods": [
            {"label": one.row.label, "vote": one.row.method == LABEL, "answers": _answers(one)}
            for one in comparison.judged
        ],
    }
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _answers(one: Judged) -> dict[str, Any]:
    """By task id: the attempts at every test input, the seconds, and what went wrong."""
    found: dict[str, Any] = {
        task_id: {
            "seconds": line["seconds"],
            "tests": [
                [list(attempt) for attempt in zip(
                    answers["grids"][:ATTEMPTS], answers["votes"],
                    [round(confidence, 3) for confidence in answers["confidences"][:ATTEMPTS]], answers["explanations"],
                    strict=False,
                )]
                for answers in line["candidates"]
            ],
        }
        for task_id, line in one.lines.items()
    }  # fmt: skip
    return found | {task_id: {"error": message} for task_id, message in one.row.errors.items()}
