"""The commands `train-jepa`, `pretokenize-jepa`, `run-jepa-ablation` and `validate-jepa-correlation`."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from arc_core.checkpoint import CheckpointError, load_checkpoint
from arc_core.config import load_config, workspace_folder
from arc_core.datasets import evenly_spaced, fingerprint, load_tasks, overlap
from arc_core.device import count_parameters, solving_device
from arc_core.errors import InputError, run_command
from arc_core.files import show_path, write_json
from arc_core.loop import TrainingResult, open_fabric
from arc_core.runs import git_commit, newest_run
from arc_core.solver import training_commands
from arc_core.task import Task
from arc_core.training_command import TrainedMethod, open_session, write_summary
from jepa_hrl.jepa.ablation import draw_variants, train_variant, variant_label, variants_of
from jepa_hrl.jepa.checkpoint import load_jepa
from jepa_hrl.jepa.config import METHOD, OLD_KEYS, TRAIN_COMMAND, JepaConfig
from jepa_hrl.jepa.correlation import DEFAULT_PROGRAMS, correlate, draw_histograms
from jepa_hrl.jepa.data.dataset import load_data
from jepa_hrl.jepa.data.search_labels import label_by_search
from jepa_hrl.jepa.data.shards import write_shards
from jepa_hrl.jepa.data.tasks import curriculum_manifest
from jepa_hrl.jepa.distances import latent_distances, pixel_distances
from jepa_hrl.jepa.trainer import Trainer, out_of_memory_advice

_JEPA = TrainedMethod(
    METHOD, JepaConfig, "train-jepa", TRAIN_COMMAND,
    "Train the object-centric JEPA on synthetic tasks, which are generated where they are missing.", OLD_KEYS,
)  # fmt: skip


def train_jepa(argv: Sequence[str] | None = None) -> int:
    """Runs `train-jepa` and returns its exit status."""
    return run_command(lambda: _train(argv))


def _train(argv: Sequence[str] | None) -> int:
    session = open_session(_JEPA, argv)
    if session is None:
        return 0
    config, console, fabric = session.config, session.console, session.fabric
    with fabric.rank_zero_first():
        data = load_data(config, console)
    run = session.begin(data.table.fingerprint)
    trainer = Trainer(config, data, run, fabric)
    session.take_over(trainer)
    _announce(console, trainer)
    return session.train(
        trainer, run, out_of_memory_advice(config), lambda ended, seconds: _report(console, trainer, ended, seconds)
    )


def _announce(console: Console, trainer: Trainer) -> None:
    """Says what is trained on what, and where the run is written."""
    config, data, table = trainer.config, trainer.data, trainer.data.table
    console.print(
        f"object-centric JEPA, {count_parameters(trainer.model):,} parameters on {trainer.fabric.device}\n"
        f"{len(table):,} tasks of {data.spec} with {len(table.objects):,} objects: {len(data.learnt):,} learnt, "
        f"{len(data.held_out):,} held out; {config.training.epochs} epochs of {trainer.steps_per_epoch} steps of "
        f"{config.training.batch_size}\nwriting to {show_path(trainer.run.path)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _report(console: Console, trainer: Trainer, ended: TrainingResult, seconds: float) -> None:
    """Scores the best checkpoint, writes summary.json and says what to do next."""
    run, config = trainer.run, trainer.config
    best = load_checkpoint(run.path, METHOD)
    trainer.load(best)
    metrics = trainer.score()
    quantizer = trainer.model.encoder.quantizer
    if quantizer is not None:
        metrics["diagnostics/vq/usage_ratio"] = float(quantizer.usage)
    write_summary(run, best, ended, seconds, config.training.seed, {"held-out tasks": metrics}, {})
    if "val/loss" in metrics:  # there are held-out tasks
        console.print(
            f"held-out tasks: loss {metrics['val/loss']:.3f}, the right output is nearest in "
            f"{metrics['val/retrieval_top1']:.3f}, "
            f"isotropy {metrics['diagnostics/context/isotropy']:.2f}"
            + (f", codes used {metrics['diagnostics/vq/usage_ratio']:.2f}" if quantizer is not None else ""),
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    console.print(
        f"trained for {seconds:.0f} s; run in {show_path(run.path)}\n"
        f"next: uv run validate-jepa-correlation --checkpoints {show_path(run.path)}      "
        f"uv run tensorboard --logdir {show_path(run.path.parent)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def pretokenize_jepa(argv: Sequence[str] | None = None) -> int:
    """Runs `pretokenize-jepa` and returns its exit status."""
    default = workspace_folder() / "configs" / METHOD / "quick.yaml"
    parser = argparse.ArgumentParser(
        "pretokenize-jepa",
        description="Compute the tokens of a recipe's tasks once; train with --pre_tokenized.path DIR.",
        epilog="example: uv run pretokenize-jepa --config configs/jepa/pretrain_gpu.yaml --output data/tokens/pilot",
    )
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help="recipe (default: quick)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the shards")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: one a core)")
    args = parser.parse_args(argv)
    return run_command(lambda: _pretokenize(args, Console(emoji=False)))


def _pretokenize(args: argparse.Namespace, console: Console) -> int:
    config, _ = load_config(JepaConfig, METHOD, training_commands(), args.config, {}, OLD_KEYS)
    began = time.perf_counter()
    tasks, size = write_shards(config, args.output, args.workers, console)
    console.print(
        f"{tasks:,} tasks in {time.perf_counter() - began:.0f} s, {size / 2**20:.1f} MiB in "
        f"{show_path(args.output)}\nnext: uv run train-jepa --pre_tokenized.path {show_path(args.output)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


def run_jepa_ablation(argv: Sequence[str] | None = None) -> int:
    """Runs `run-jepa-ablation` and returns its exit status."""
    default = workspace_folder() / "configs" / METHOD / "ablation.yaml"
    parser = argparse.ArgumentParser(
        "run-jepa-ablation",
        description="Train the JEPA with one part of its objective after another, all else equal, and compare them on "
        "held-out tasks: success_rate is how often the right output's latent is the nearest to the prediction.",
        epilog="example: uv run run-jepa-ablation --tasks data/pilot_curriculum/manifest.jsonl",
    )
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help="recipe (default: ablation)")
    parser.add_argument("--tasks", metavar="MANIFEST", help="synthetic tasks (default: the recipe's)")
    parser.add_argument("--epochs", type=int, help="of each variant (default: the recipe's)")
    output = workspace_folder() / "runs" / "jepa-ablation" / "jepa_variants.json"
    parser.add_argument("--output", type=Path, default=output, metavar="FILE", help=f"default: {show_path(output)}")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"))
    args = parser.parse_args(argv)
    return run_command(lambda: _ablate(args, Console(emoji=False)))


def _ablate(args: argparse.Namespace, console: Console) -> int:
    flags = {"training.epochs": args.epochs, "device.name": args.device}
    overrides: dict[str, object] = {key: value for key, value in flags.items() if value is not None}
    if args.tasks is not None:
        overrides["data.tasks"] = f"manifest:{args.tasks}"
    config, _ = load_config(JepaConfig, METHOD, training_commands(), args.config, overrides, OLD_KEYS)
    fabric = open_fabric(config.device.name, config.training.precision)
    data = load_data(config, console)
    if len(data.held_out) < 2:
        raise InputError(f"data.held_out must leave two tasks to compare variants on; it leaves {len(data.held_out)}")
    folder = args.output.parent / f"{args.output.stem}_runs"
    console.print(f"writing to {show_path(folder)}", highlight=False, soft_wrap=True)
    results: dict[str, dict[str, float]] = {}
    for name, variant in variants_of(config).items():
        ended, results[name] = train_variant(name, variant, data, folder, fabric, console)
        if ended.status:
            console.print(f"{ended.message}; the same command goes on", highlight=False)
            return ended.status
    write_json(
        args.output,
        {
            "variants": results, "data": data.spec, "data_fingerprint": data.table.fingerprint,
            "epochs": config.training.epochs, "seed": config.training.seed, "held_out": len(data.held_out),
            "commit": git_commit(),
        },
    )  # fmt: skip
    picture = args.output.with_suffix(".png")
    draw_variants(results, picture)
    table = Table("", "right", "loss", "isotropy", "codes used", title=f"{len(data.held_out)} held-out tasks")
    for name, row in results.items():
        usage = f"{row['usage_ratio']:.2f}" if "usage_ratio" in row else "-"
        cells = (f"{row['success_rate']:.3f}", f"{row['avg_loss']:.3f}", f"{row['isotropy']:.2f}", usage)
        table.add_row(variant_label(name), *cells)
    console.print(table)
    console.print(
        f"written to {show_path(args.output)}, drawn in {show_path(picture)}\n"
        "next: uv run train-jepa --config configs/jepa/sigreg.yaml",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


def validate_jepa_correlation(argv: Sequence[str] | None = None) -> int:
    """Runs `validate-jepa-correlation` and returns its exit status."""
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
    parser.add_argument(
        "--max-programs", type=int, default=DEFAULT_PROGRAMS, help=f"of a task's search (default {DEFAULT_PROGRAMS})"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="N tasks, evenly spaced, only")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: one a core)")
    parser.add_argument("--jepa-config", type=Path, help="accepted and not needed: a checkpoint holds its config")
    args = parser.parse_args(argv)
    return run_command(lambda: _correlate(args, Console(emoji=False)))


def _correlate(args: argparse.Namespace, console: Console) -> int:
    newest = newest_run(workspace_folder() / "runs", METHOD)
    path = args.checkpoints or (newest.path if newest else None)
    if path is None:
        raise CheckpointError(f"no JEPA is trained yet; train one with {TRAIN_COMMAND}")
    jepa = load_jepa(path, solving_device(args.device))
    tasks, spec = _load_tasks(args, console)
    shared = overlap(tasks, [task for term in jepa.training_data for task in load_tasks(term)]).by_content
    if shared:
        console.print(f"left out, as the JEPA learnt from them: {len(shared)} of {len(tasks)} tasks", highlight=False)
        tasks = [task for task in tasks if task.task_id not in set(shared)]
    if len(tasks) < 3:
        raise InputError(f"{spec} must have at least three tasks that the JEPA did not learn from; got {len(tasks)}")
    distances, pixels = latent_distances(jepa, tasks), pixel_distances(tasks)
    solved = label_by_search(tasks, args.max_programs, args.workers, console)
    latent, pixel = correlate(distances, solved), correlate(pixels, solved)
    output = args.output or (path if path.is_dir() else path.parent.parent) / "jepa_correlation.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        output,
        {
            "pearson_correlation": latent.pearson, "p_value": latent.p_value,
            "mean_distance_solved": latent.mean_solved, "mean_distance_failed": latent.mean_failed,
            "threshold_95_recall": latent.threshold_95_recall,
            "pixel_difference": {"pearson_correlation": pixel.pearson, "p_value": pixel.p_value},
            "tasks": len(tasks), "solved": int(solved.sum()), "left_out": list(shared), "data": spec,
            "fingerprint": fingerprint(tasks), "max_programs": args.max_programs, "checkpoint": str(jepa.file),
            "training_data": list(jepa.training_data), "commit": git_commit(),
        },
    )  # fmt: skip
    picture = output.with_suffix(".png")
    series = [("latent distance", distances, latent), ("share of cells that differ", pixels, pixel)]
    draw_histograms(series, solved, picture)
    console.print(
        f"{len(tasks)} tasks, {int(solved.sum())} solved with {args.max_programs} programs\n"
        f"latent distance: Pearson {latent.pearson:.3f} (p {latent.p_value:.1e}), solved {latent.mean_solved:.3f}, "
        f"not solved {latent.mean_failed:.3f}\n"
        f"share of cells that differ: Pearson {pixel.pearson:.3f} (p {pixel.p_value:.1e})\n"
        f"written to {show_path(output)}, drawn in {show_path(picture)}\n"
        f"next: uv run evaluate-arc --tasks {spec.removeprefix('manifest:')} --latent-config {show_path(path)} "
        "--output runs/search/guided.json --limit 200",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


def _load_tasks(args: argparse.Namespace, console: Console) -> tuple[list[Task], str]:
    """Loads the tasks to correlate on, and returns them with their data spec."""
    manifest = args.tasks or show_path(curriculum_manifest("pilot_held_out", console))
    spec = f"manifest:{manifest}"
    tasks = load_tasks(spec)
    if not all(task.has_answers and len(task.train) > 2 for task in tasks):
        raise InputError(f"{spec}: every task must have three demonstrations, and every test its output")
    return evenly_spaced(tasks, args.limit), spec


if __name__ == "__main__":
    raise SystemExit(train_jepa())
