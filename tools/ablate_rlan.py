"""Ablates RLAN: trains a recipe without each of its parts, with the same seed and number of steps, and compares.

    uv run tools/ablate_rlan.py --config configs/rlan/quick.yaml

Any further `--section.key VALUE` goes to every run. Writes results/ablation-<recipe>/table.md, results.json and
plot.png; a run that is already there is not repeated, an unfinished one is resumed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from arc_core.config import workspace_folder
from arc_core.files import write_atomically, write_json, write_text

BASE_FLAGS = {"--model.use_hyperlora": "true"}  # the recipe with every part on
VARIANTS: dict[str, dict[str, str]] = {
    "whole": {},
    "without DSC and MSRE": {"--model.use_dsc": "false"},
    "without MSRE": {"--model.use_msre": "false"},
    "without LCR": {"--model.use_lcr": "false"},
    "without SPH": {"--model.use_sph": "false"},
    "without context": {"--model.use_context": "false", "--model.use_hyperlora": "false"},
    "without steering": {"--model.use_steering": "false"},
    "without HyperLoRA": {"--model.use_hyperlora": "false"},
    "without solver attention": {"--model.solver_attention": "false"},
}
Scores = dict[str, dict[str, float]]  # by set of tasks and metric
METRICS = ("task_accuracy", "pixel_accuracy", "non_bg_accuracy", "size_accuracy")


def run_variant(name: str, flags: dict[str, str], config: str, rest: list[str], folder: Path) -> Scores:
    """Trains a variant, unless a finished run of it is there, and returns its scores.

    Args:
        name: the variant's name, which names its run folder.
        flags: flags of `train` that switch a part off.
        config: path of the recipe.
        rest: further flags for every variant.
        folder: folder of the ablation.
    Raises:
        SystemExit: training ended with another status than 0, which is passed on.
    """
    run = folder / "runs" / name.replace(" ", "-")
    if not (run / "summary.json").exists():
        print(f"training {name}", flush=True)
        overrides = [word for pair in (BASE_FLAGS | flags).items() for word in pair]
        run_flags = ["--config", config, "--run-dir", str(run), "--resume", "auto"]
        status = subprocess.run([sys.executable, "-m", "rlan", *run_flags, *overrides, *rest]).returncode
        if status:
            raise SystemExit(status)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return {name: rows["rlan"] for name, rows in summary["results"].items()}


def plot_accuracies(results: dict[str, Scores]) -> Figure:
    """Plots the training and held-out accuracy of cells of every variant."""
    figure = Figure(figsize=(9, 0.5 * len(results) + 1.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    names = list(results)[::-1]
    for axis, metric in zip(axes, ("pixel_accuracy", "non_bg_accuracy"), strict=True):
        for offset, name in ((-0.18, "train"), (0.18, "held-out")):
            values = [results[variant].get(name, {}).get(metric, 0.0) for variant in names]
            axis.barh([y + offset for y in range(len(names))], values, height=0.34, label=name)
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel(metric)
        axis.axvline(results["whole"]["held-out"][metric], color="#555", linewidth=0.8, linestyle=":")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/rlan/quick.yaml")
    args, rest = parser.parse_known_args()
    folder = workspace_folder() / "results" / f"ablation-{Path(args.config).stem}"
    results = {name: run_variant(name, flags, args.config, rest, folder) for name, flags in VARIANTS.items()}
    rows = ["| variant | set | " + " | ".join(METRICS) + " |", "| --- " * (len(METRICS) + 2) + "|"]
    for name, sets in results.items():
        for which, metrics in sets.items():
            rows.append(f"| {name} | {which} | " + " | ".join(f"{metrics[key]:.3f}" for key in METRICS) + " |")
    table = "\n".join(rows) + "\n"
    write_text(folder / "table.md", table)
    write_json(folder / "results.json", results)
    figure = plot_accuracies(results)
    FigureCanvasAgg(figure)
    write_atomically(folder / "plot.png", lambda file: figure.savefig(file, format="png", dpi=120))
    print(table)
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
