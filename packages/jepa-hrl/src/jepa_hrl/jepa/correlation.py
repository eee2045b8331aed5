"""Correlation of a distance with being solved: does the latent distance tell which tasks the program search solves?

A task's latent distance is that of its outputs' latents from the JEPA's predictions, each from the task's other pairs.
A task counts as solved if a short program search, which knows nothing of latents, solves it. The share of cells that
differ between inputs and outputs is the baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from arc_core.errors import InputError
from arc_core.files import write_atomically
from arc_core.render import figure_to_png

Floats = npt.NDArray[np.float64]
DEFAULT_PROGRAMS = 60  # of a task's search; with them two thirds of the pilot curriculum are solved


@dataclass(frozen=True)
class Correlation:
    """The correlation of a distance with being solved.

    Attributes:
        pearson: of the distance with 1 for solved and 0 for failed.
        p_value: of the correlation, two-sided.
        mean_solved: mean distance of the solved tasks.
        mean_failed: mean distance of the others.
        threshold_95_recall: 95% of the solved tasks lie at or below this distance.
    """

    pearson: float
    p_value: float
    mean_solved: float
    mean_failed: float
    threshold_95_recall: float


def correlate(distances: Floats, solved: npt.NDArray[np.bool_]) -> Correlation:
    """Correlates the (T,) distances of tasks with (T,) whether each is solved.

    Raises:
        InputError: all tasks were solved, or none.
    """
    if solved.all() or not solved.any():
        raise InputError(
            f"both outcomes must occur; {int(solved.sum())} of {len(solved)} tasks were solved: "
            f"give the search {'fewer' if solved.all() else 'more'} programs with --max-programs"
        )
    result = stats.pearsonr(distances, solved.astype(float))
    return Correlation(
        float(result.statistic), float(result.pvalue), float(distances[solved].mean()),
        float(distances[~solved].mean()),
        float(np.quantile(distances[solved], 0.95)),
    )  # fmt: skip


def draw_histograms(
    series: Sequence[tuple[str, Floats, Correlation]], solved: npt.NDArray[np.bool_], path: Path
) -> None:
    """Draws the histograms of two distances, solved and failed tasks apart, as a PNG.

    Args:
        series: name, (T,) values and correlation of each distance; the first is marked with its threshold.
        solved: (T,) whether each task is solved.
        path: of the picture.
    """
    # Imported here: matplotlib takes most of a second.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=110)
    axes = figure.subplots(1, 2)
    for axis, (name, values, correlation) in zip(axes, series, strict=True):
        edges = np.linspace(float(values.min()), float(values.max()) + 1e-9, 31)
        axis.hist(values[solved], edges, alpha=0.65, label=f"solved ({int(solved.sum())})", color="#2a7f62")
        axis.hist(values[~solved], edges, alpha=0.65, label=f"not solved ({int((~solved).sum())})", color="#c8553d")
        axis.set_xlabel(name)
        axis.set_title(f"Pearson {correlation.pearson:.2f}", fontsize=10)
    axes[0].axvline(series[0][2].threshold_95_recall, color="#444", linestyle=":", label="95% of the solved")
    axes[0].set_ylabel("tasks")
    axes[0].legend(fontsize=8)
    write_atomically(path, lambda file: file.write(figure_to_png(figure)))
