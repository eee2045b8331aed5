"""Plots of learning curves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arc_core.files import write_atomically
from arc_core.render import figure_to_png

Curve = Sequence[tuple[int, float]]


def write_curve(path: Path, curves: Sequence[Curve], cloned: Curve = ()) -> None:
    """Plots held-out success over environment steps, of every run, and their mean where there are several.

    Args:
        path: PNG to write.
        curves: (steps, success) points of each run; several runs must have the same steps.
        cloned: (optimiser steps, success) points of the imitation that the runs started from, plotted beside.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4) if cloned else (6, 4), layout="constrained")
    if cloned:
        before, axes = figure.subplots(1, 2, sharey=True)
        before.plot(*zip(*cloned, strict=True), color="#1f77b4", marker="o", markersize=3)
        before.set_xlabel("optimiser steps of cloning")
        before.set_ylabel("grounded success on held-out tasks")
        before.grid(alpha=0.3)
    else:
        axes = figure.subplots()
        axes.set_ylabel("grounded success on held-out tasks")
    for curve in curves:
        steps, success = zip(*curve, strict=True)
        axes.plot(steps, success, color="#1f77b4", alpha=1.0 if len(curves) == 1 else 0.4, marker="o", markersize=3)
    if len(curves) > 1:
        steps = tuple(point[0] for point in curves[0])
        values = np.array([[success for _, success in curve] for curve in curves])
        axes.plot(steps, values.mean(axis=0), color="#d62728", label=f"mean of {len(curves)} seeds")
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(steps, low, high, color="#d62728", alpha=0.15, label="least to most")
        axes.legend(loc="lower right")
    axes.set_xlabel("environment steps of PPO" if cloned else "environment steps")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    png = figure_to_png(figure)
    write_atomically(path, lambda file: file.write(png))
