"""The report's plots, as SVG that takes its ink from the page and so follows its light and dark."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Source: Okabe and Ito, colours that people with colour blindness tell apart, without black, which the dark hides.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C8C00", "#7A5195", "#A05A2C", "#7F8C8D")
_INK = "#0a0b0c"  # stands for the page's ink in what matplotlib writes
_WIDTH, _HEIGHT = 5.4, 3.6  # inches

_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "arc", "font.family": "sans-serif", "font.size": 9.5,
    "axes.edgecolor": _INK, "axes.labelcolor": _INK, "text.color": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "grid.color": _INK,
    "grid.alpha": 0.15, "axes.grid": True,
}  # fmt: skip

Methods = Sequence[Mapping[str, Any]]  # as in results.json, scored ones, best first


def plots(methods: Methods) -> list[tuple[str, str]]:
    """A caption and an SVG of each plot."""
    sized = "longest side" in methods[0]["groups"]
    found = [
        ("Score within two attempts, with its 95% interval.",
         _svg(_scores, methods, "scores", 0.9 + 0.34 * len(methods))),
        ("Share of tasks solved within k attempts.", _svg(_pass_at, methods, "pass at k")),
        ("Seconds a task against score.", _svg(_cost, methods, "cost")),
        ("Confidence in the first answer against how often it is right; the size of a dot grows with the number of "
         "answers. On the dashed line confidence is honest.", _svg(_calibration, methods, "calibration")),
    ]  # fmt: skip
    if sized:
        found.append(("Score by the longest side of the test pairs.", _svg(_by_size, methods, "score by size")))
    return found


def color_of(place: int) -> str:
    """A method's colour by its place in the ranking."""
    return COLORS[place % len(COLORS)]


def _svg(draw: Callable[[Axes, Methods], None], methods: Methods, title: str, height: float = _HEIGHT) -> str:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.subplots(), methods)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r"\1", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Several drawings share a page: their ids must not meet.
    prefix = title.replace(" ", "-")
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="Plot: {escape(title)}" ', 1)


def _scores(axes: Axes, methods: Methods) -> None:
    for place, method in enumerate(methods):
        score, (low, high) = method["scores"]["score"], method["scores"]["score_95"]
        axes.plot([100 * low, 100 * high], [-place, -place], color=color_of(place), linewidth=2)
        axes.plot(100 * score, -place, "o", color=color_of(place), markersize=6)
    axes.set_yticks([-place for place in range(len(methods))], [_short(method["label"]) for method in methods])
    axes.set_ylim(-len(methods) + 0.4, 0.6)
    axes.set_xlabel("score, percent")
    axes.set_xlim(left=0)


def _pass_at(axes: Axes, methods: Methods) -> None:
    for place, method in enumerate(methods):
        passed = method["scores"]["pass_at"]
        axes.plot(
            [int(k) for k in passed], [100 * share for share in passed.values()], "o-", color=color_of(place),
            label=_short(method["label"]), markersize=3.5,
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = [int(k) for k in methods[0]["scores"]["pass_at"]]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()
    axes.set_xlabel("attempts")
    axes.set_ylabel("tasks solved, percent")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)


def _cost(axes: Axes, methods: Methods) -> None:
    shown = [(place, method) for place, method in enumerate(methods) if method["scores"]["seconds_per_task"] > 0]
    for place, method in shown:
        x, y = method["scores"]["seconds_per_task"], 100 * method["scores"]["score"]
        axes.plot(x, y, "o", color=color_of(place), label=_short(method["label"]))
    if shown:
        # Limits of our own, a decade's tick within: matplotlib finds none for a power of ten that rounding missed.
        times = [method["scores"]["seconds_per_task"] for _, method in shown]
        axes.set_xlim(min(times) / 4, max(times) * 4)
        axes.set_xscale("log")
        axes.legend(fontsize=8)
    axes.set_xlabel("seconds a task")
    axes.set_ylabel("score, percent")
    axes.set_ylim(bottom=0)


def _calibration(axes: Axes, methods: Methods) -> None:
    axes.plot([0, 1], [0, 1], "--", color=_INK, alpha=0.5, linewidth=1)
    for place, method in enumerate(methods):
        found = method["calibration"]
        if found and not method["baseline"]:
            bins = found["bins"]
            x, y = [one["confidence"] for one in bins], [one["right"] for one in bins]
            axes.plot(x, y, "-", color=color_of(place), label=_short(method["label"]), linewidth=1)
            axes.scatter(
                x, y, s=[8 + 120 * one["answers"] / found["answers"] for one in bins], color=color_of(place), alpha=0.8
            )
    axes.set_xlabel("confidence")
    axes.set_ylabel("share right")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _by_size(axes: Axes, methods: Methods) -> None:
    for place, method in enumerate(methods):
        parts = method["groups"]["longest side"]
        axes.plot(
            range(len(parts)), [100 * part["score"] for part in parts.values()], "o-", color=color_of(place),
            label=_short(method["label"]), markersize=3.5,
        )  # fmt: skip
    names = methods[0]["groups"]["longest side"]
    axes.set_xticks(range(len(names)), [f"{name}\n{int(part['tasks'])}" for name, part in names.items()])
    axes.set_xlabel("cells, and number of tasks")
    axes.set_ylabel("score, percent")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)


def _short(label: str) -> str:
    shown = label if len(label) <= 28 else label[:27] + "…"
    return shown.replace("$", r"\$").lstrip("_")
