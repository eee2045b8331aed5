"""`validate-jepa-correlation`: does the latent distance tell which tasks the program search solves?

A task's distance is how far the latents of its outputs lie from what the JEPA predicts of them, each from the task's
other pairs. A task counts as solved if a short search of programs, which is told nothing of latents, solves it. The
share of cells that differ between inputs and outputs is the plain distance beside it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy import stats

from arc_core.checkpoint import CheckpointError
from arc_core.config import workspace_folder
from arc_core.datasets import evenly_spaced, fingerprint, load_tasks, overlap
from arc_core.device import solving_device
from arc_core.errors import InputError, run_command
from arc_core.files import show_path, write_atomically, write_json
from arc_core.render import figure_to_png
from arc_core.runs import git_commit, newest_run
from arc_core.task import Task
from jepa_hrl.jepa.config import METHOD, TRAIN_COMMAND
from jepa_hrl.jepa.distances import latent_distances, pixel_distances
from jepa_hrl.jepa.opened import open_jepa
from jepa_hrl.jepa.solvable import solved_by_search
from jepa_hrl.jepa.tasks import curriculum_manifest

Floats = npt.NDArray[np.float64]
_PROGRAMS = 60  # of the search by default: of the pilot curriculum two thirds are solved


@dataclass(frozen=True)
class Correlation:
    """How a distance goes with being solved.

    Attributes:
        pearson, p_value: two-sided; of the distance with 1 for solved, 0 for failed.
        mean_solved, mean_failed: distances.
        threshold_95_recall: 95% of the solved tasks lie at or below it.
    """

    pearson: float
    p_value: float
    mean_solved: float
    mean_failed: float
    threshold_95_recall: float


def correlate(distances: Floats, solved: npt.NDArray[np.bool_]) -> Correlation:
    """The figures of one distance.

    Raises:
        InputError: all tasks were solved, or none.
    """
    if solved.all() or not solved.any():
        raise InputError(
            f"both outcomes must occur; {int(solved.sum())} of {len(solved)} tasks were solved: "
            f"give the search {'fewer' if solved.all() else 'more'} programs with --max-programs"
        )
    found = stats.pearsonr(distances, solved.astype(float))
    return Correlation(
        float(found.statistic), float(found.pvalue), float(distances[solved].mean()), float(distances[~solved].mean()),
        float(np.quantile(distances[solved], 0.95)),
    )  # fmt: skip


def draw(measured: Sequence[tuple[str, Floats, Correlation]], solved: npt.NDArray[np.bool_], path: Path) -> None:
    """Histograms of two distances, solved and failed tasks apart, as a PNG."""
    # Imported here: matplotlib takes most of a second.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=110)
    axes = figure.subplots(1, 2)
    for axis, (name, values, found) in zip(axes, measured, strict=True):
        edges = np.linspace(float(values.min()), float(values.max()) + 1e-9, 31)
        axis.hist(values[solved], edges, alpha=0.65, label=f"solved ({int(solved.sum())})", color="#2a7f62")
        axis.hist(values[~solved], edges, alpha=0.65, label=f"not solved ({int((~solved).sum())})", color="#c8553d")
        axis.set_xlabel(name)
        axis.set_title(f"Pearson {found.pearson:.2f}", fontsize=10)
    axes[0].axvline(measured[0][2].threshold_95_recall, color="#444", linestyle=":", label="95% of the solved")
    axes[0].set_ylabel("tasks")
    axes[0].legend(fontsize=8)
    write_atomically(path, lambda file: file.write(figure_to_png(figure)))


def main(argv: Sequence[str] | None = None) -> int:
    """The command `validate-jepa-correlation`."""
    parser = argparse.ArgumentParser(
        "validate-jepa-correlation",
        description="Correlate the JEPA's distance on tasks with whether a short program search solves them.",
        epilog="example: uv run validate-jepa-correlation --tasks data/pilot_held_out/manifest.jsonl",
    )
    parser.add_argument("--checkpoints", type=Path, metavar="RUN", help="run or checkpoint (default: the newest run)")
    parser.add_argument(
        "--tasks", metavar="MANIFEST", help="tasks (default: data/pilot_held_out, generated if missing)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: jepa_correlation.json in the run")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--max-programs", type=int, default=_PROGRAMS, help=f"of a task's search (default {_PROGRAMS})")
    parser.add_argument("--limit", type=int, metavar="N", help="N tasks, evenly spaced, only")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: one a core)")
    parser.add_argument("--jepa-config", type=Path, help="accepted and not needed: a checkpoint holds its config")
    args = parser.parse_args(argv)
    return run_command(lambda: _validate(args, Console(emoji=False)))


def _validate(args: argparse.Namespace, console: Console) -> int:
    newest = newest_run(workspace_folder() / "runs", METHOD)
    path = args.checkpoints or (newest.path if newest else None)
    if path is None:
        raise CheckpointError(f"no JEPA is trained yet; train one with {TRAIN_COMMAND}")
    jepa = open_jepa(path, solving_device(args.device))
    tasks, spec = _tasks(args, console)
    shared = overlap(tasks, [task for term in jepa.training_data for task in load_tasks(term)]).by_content
    if shared:
        console.print(f"left out, as the JEPA learnt from them: {len(shared)} of {len(tasks)} tasks", highlight=False)
        tasks = [task for task in tasks if task.task_id not in set(shared)]
    if len(tasks) < 3:
        raise InputError(f"{spec} must have at least three tasks that the JEPA did not learn from; got {len(tasks)}")
    distances, pixels = latent_distances(jepa, tasks), pixel_distances(tasks)
    solved = solved_by_search(tasks, args.max_programs, args.workers, console)
    found, plain = correlate(distances, solved), correlate(pixels, solved)
    output = args.output or (path if path.is_dir() else path.parent.parent) / "jepa_correlation.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        output,
        {
            "pearson_correlation": found.pearson, "p_value": found.p_value,
            "mean_distance_solved": found.mean_solved, "mean_distance_failed": found.mean_failed,
            "threshold_95_recall": found.threshold_95_recall,
            "pixel_difference": {"pearson_correlation": plain.pearson, "p_value": plain.p_value},
            "tasks": len(tasks), "solved": int(solved.sum()), "left_out": list(shared), "data": spec,
            "fingerprint": fingerprint(tasks), "max_programs": args.max_programs, "checkpoint": str(jepa.file),
            "training_data": list(jepa.training_data), "commit": git_commit(),
        },
    )  # fmt: skip
    picture = output.with_suffix(".png")
    measured = [("latent distance", distances, found), ("share of cells that differ", pixels, plain)]
    draw(measured, solved, picture)
    console.print(
        f"{len(tasks)} tasks, {int(solved.sum())} solved with {args.max_programs} programs\n"
        f"latent distance: Pearson {found.pearson:.3f} (p {found.p_value:.1e}), solved {found.mean_solved:.3f}, "
        f"not solved {found.mean_failed:.3f}\n"
        f"share of cells that differ: Pearson {plain.pearson:.3f} (p {plain.p_value:.1e})\n"
        f"written to {show_path(output)}, drawn in {show_path(picture)}\n"
        f"next: uv run evaluate-arc --tasks {spec.removeprefix('manifest:')} --latent-config {show_path(path)} "
        "--output runs/search/guided.json --limit 200",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


def _tasks(args: argparse.Namespace, console: Console) -> tuple[list[Task], str]:
    manifest = args.tasks or show_path(curriculum_manifest("pilot_held_out", console))
    spec = f"manifest:{manifest}"
    tasks = load_tasks(spec)
    if not all(task.has_answers and len(task.train) > 2 for task in tasks):
        raise InputError(f"{spec}: every task must have three demonstrations, and every test its output")
    return evenly_spaced(tasks, args.limit), spec


if __name__ == "__main__":
    raise SystemExit(main())
