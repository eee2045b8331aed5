"""Draws the report's plots as SVG in the page's text colour, so that they follow its light and dark themes."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Source: Okabe and Ito, colours that people with colour blindness tell apart; without black, which a dark page hides.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C8C00", "#7A5195", "#A05A2C", "#7F8C8D")
_INK = "#0a0b0c"  # placeholder in matplotlib's output that is replaced by the page's text colour
_WIDTH, _HEIGHT = 5.4, 3.6  # inches

_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "arc", "font.family": "sans-serif", "font.size": 9.5,
    "axes.edgecolor": _INK, "axes.labelcolor": _INK, "text.color": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "grid.color": _INK,
    "grid.alpha": 0.15, "axes.grid": True,
}  # fmt: skip

Methods = Sequence[Mapping[str, Any]]  # scored methods as in results.json, best first


def draw_plots(methods: Methods) -> list[tuple[str, str]]:
    """Draws every plot and returns its caption and SVG."""
    has_sizes = "longest side" in methods[0]["groups"]
    plots = [
        ("Score within two attempts, with its 95% interval.",
         _svg(_draw_scores, methods, "scores", 0.9 + 0.34 * len(methods))),
        ("Share of tasks solved within k attempts.", _svg(_draw_pass_at, methods, "pass at k")),
        ("Seconds a task against score.", _svg(_draw_cost, methods, "cost")),
        ("Confidence in the first answer against how often it is right; the size of a dot grows with the number of "
         "answers. On the dashed line confidence is honest.", _svg(_draw_calibration, methods, "calibration")),
    ]  # fmt: skip
    if has_sizes:
        plots.append(("Score by the longest side of the test pairs.", _svg(_draw_by_size, methods, "score by size")))
    return plots


def method_color(index: int) -> str:
    """Returns a method's colour by its index in the ranking."""
    return COLORS[index % len(COLORS)]


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
    # Several drawings share a page, so their ids must differ.
    prefix = title.replace(" ", "-")
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="Plot: {escape(title)}" ', 1)


def _draw_scores(axes: Axes, methods: Methods) -> None:
    for index, method in enumerate(methods):
        score, (low, high) = method["scores"]["score"], method["scores"]["score_95"]
        axes.plot([100 * low, 100 * high], [-index, -index], color=method_color(index), linewidth=2)
        axes.plot(100 * score, -index, "o", color=method_color(index), markersize=6)
    axes.set_yticks([-index for index in range(len(methods))], [_shorten(method["label"]) for method in methods])
    axes.set_ylim(-len(methods) + 0.4, 0.6)
    axes.set_xlabel("score, percent")
    axes.set_xlim(left=0)


def _draw_pass_at(axes: Axes, methods: Methods) -> None:
    for index, method in enumerate(methods):
        pass_at = method["scores"]["pass_at"]
        axes.plot(
            [int(k) for k in pass_at], [100 * share for share in pass_at.values()], "o-", color=method_color(index),
            label=_shorten(method["label"]), markersize=3.5,
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = [int(k) for k in methods[0]["scores"]["pass_at"]]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()
    axes.set_xlabel("attempts")
    axes.set_ylabel("tasks solved, percent")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)


def _draw_cost(axes: Axes, methods: Methods) -> None:
    timed = [(index, method) for index, method in enumerate(methods) if method["scores"]["seconds_per_task"] > 0]
    for index, method in timed:
        x, y = method["scores"]["seconds_per_task"], 100 * method["scores"]["score"]
        axes.plot(x, y, "o", color=method_color(index), label=_shorten(method["label"]))
    if timed:
        # Explicit limits with a decade's tick inside: matplotlib finds no tick if rounding misses a power of ten.
        times = [method["scores"]["seconds_per_task"] for _, method in timed]
        axes.set_xlim(min(times) / 4, max(times) * 4)
        axes.set_xscale("log")
        axes.legend(fontsize=8)
    axes.set_xlabel("seconds a task")
    axes.set_ylabel("score, percent")
    axes.set_ylim(bottom=0)


def _draw_calibration(axes: Axes, methods: Methods) -> None:
    axes.plot([0, 1], [0, 1], "--", color=_INK, alpha=0.5, linewidth=1)
    for index, method in enumerate(methods):
        calibration = method["calibration"]
        if calibration and not method["baseline"]:
            bins = calibration["bins"]
            x, y = [part["confidence"] for part in bins], [part["right"] for part in bins]
            axes.plot(x, y, "-", color=method_color(index), label=_shorten(method["label"]), linewidth=1)
            axes.scatter(
                x,
                y,
                s=[8 + 120 * part["answers"] / calibration["answers"] for part in bins],
                color=method_color(index),
                alpha=0.8,
            )
    axes.set_xlabel("confidence")
    axes.set_ylabel("share right")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _draw_by_size(axes: Axes, methods: Methods) -> None:
    for index, method in enumerate(methods):
        parts = method["groups"]["longest side"]
        axes.plot(
            range(len(parts)), [100 * part["score"] for part in parts.values()], "o-", color=method_color(index),
            label=_shorten(method["label"]), markersize=3.5,
        )  # fmt: skip
    names = methods[0]["groups"]["longest side"]
    axes.set_xticks(range(len(names)), [f"{name}\n{int(part['tasks'])}" for name, part in names.items()])
    axes.set_xlabel("cells, and number of tasks")
    axes.set_ylabel("score, percent")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)


def _shorten(label: str) -> str:
    shown = label if len(label) <= 28 else label[:27] + "…"
    return shown.replace("$", r"\$").lstrip("_")
