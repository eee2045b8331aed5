"""`run-jepa-ablation`: the same training with one part of the objective after another switched on.

Variants share data, seed, epochs and all else. Each trains in a run folder of its own; a finished one is not trained
again, an interrupted one goes on.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table

from arc_core.checkpoint import newest_whole
from arc_core.config import config_to_dict, config_to_yaml, load_config, workspace_folder
from arc_core.errors import InputError, run_command
from arc_core.files import show_path, write_atomically, write_json, write_text
from arc_core.loop import Ended, open_fabric
from arc_core.progress import Progress
from arc_core.render import figure_to_png
from arc_core.runs import RunFolder, git_commit
from arc_core.solver import training_commands
from arc_core.training_command import check_resumable, train_to_end
from jepa_hrl.jepa.config import METHOD, OLD_KEYS, JepaConfig
from jepa_hrl.jepa.data import JepaData, load_data
from jepa_hrl.jepa.trainer import Trainer, out_of_memory_advice

_SIGREG = 0.1  # where the recipe itself has none
_INVARIANCE = 0.02
_RELATIONAL = 0.05


def variants_of(config: JepaConfig) -> dict[str, JepaConfig]:
    """A recipe's variants, each with a part of the objective more than the one before."""
    loss = config.loss
    bare = replace(loss, relational_weight=0.0, color_weight=0.0, translation_weight=0.0, symmetry_weight=0.0)
    with_relations = replace(bare, relational_weight=loss.relational_weight or _RELATIONAL)
    with_invariance = replace(
        with_relations, color_weight=loss.color_weight, symmetry_weight=loss.symmetry_weight,
        translation_weight=loss.translation_weight or _INVARIANCE,
    )  # fmt: skip
    no_sigreg = replace(config.sigreg, weight=0.0)
    sigreg = replace(config.sigreg, weight=config.sigreg.weight or _SIGREG)
    plain = replace(config.object_encoder, vq_enabled=False)
    coded = replace(config.object_encoder, vq_enabled=True)
    return {
        "infonce_only": replace(config, loss=bare, sigreg=no_sigreg, object_encoder=plain),
        "infonce_vq": replace(config, loss=bare, sigreg=no_sigreg, object_encoder=coded),
        "infonce_vq_relational": replace(config, loss=with_relations, sigreg=no_sigreg, object_encoder=coded),
        "infonce_vq_relational_invariance": replace(
            config, loss=with_invariance, sigreg=no_sigreg, object_encoder=coded
        ),
        "infonce_vq_relational_invariance_sigreg": replace(
            config, loss=with_invariance, sigreg=sigreg, object_encoder=coded
        ),
    }


def train_variant(
    name: str, config: JepaConfig, data: JepaData, folder: Path, fabric: Fabric, console: Console
) -> tuple[Ended, dict[str, float]]:
    """Trains a variant, or what is left of it, and scores its last weights on the held-out tasks."""
    run = RunFolder(folder / name)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    if run.summary.exists():
        stored = json.loads(run.summary.read_text(encoding="utf-8"))
        console.print(f"{name}: trained before", highlight=False)
        return Ended(stored["steps"], 0), dict(stored["results"])
    trainer = Trainer(config, data, run, fabric)
    found = newest_whole(run.checkpoints, METHOD)
    if found is not None:
        check_resumable(found[0], config_to_dict(config), data.table.fingerprint)
        trainer.load(found[0])
    write_text(run.config, config_to_yaml(config, METHOD))
    began = time.perf_counter()
    progress = Progress(console, trainer.total_steps, name, trainer.step)
    ended = train_to_end(trainer.train, progress, fabric, run, out_of_memory_advice(config))
    if ended.status:
        return ended, {}
    scored = trainer.score()
    results = {
        "success_rate": scored["val/right"], "avg_loss": scored["val/loss"],
        "isotropy": scored["diagnostics/context/isotropy"], "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    if trainer.model.encoder.quantizer is not None:
        results["usage_ratio"] = float(trainer.model.encoder.quantizer.usage)
    write_json(run.summary, {"method": METHOD, "steps": ended.step, "results": results, "commit": git_commit()})
    return ended, results


def _label(name: str) -> str:
    """A variant by the part that it adds."""
    return "infonce alone" if name == "infonce_only" else f"+ {name.rpartition('_')[2]}"


def draw(variants: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Success rate and isotropy of each variant as bars, as a PNG."""
    # Imported here: matplotlib takes most of a second.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 0.6 * len(variants) + 1.2), layout="constrained", dpi=110)
    axes = figure.subplots(1, 2, sharey=True)
    names = list(map(_label, variants))
    for axis, key, label in (
        (axes[0], "success_rate", "right output nearest, held-out tasks"), (axes[1], "isotropy", "isotropy"),
    ):  # fmt: skip
        values = [results[key] for results in variants.values()]
        bars = axis.barh(names, values, color="#3d6fa5")
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
        axis.set_xlim(0, max(values) * 1.25)
        axis.set_xlabel(label)
    axes[0].invert_yaxis()
    write_atomically(path, lambda file: file.write(figure_to_png(figure)))


def main(argv: Sequence[str] | None = None) -> int:
    """The command `run-jepa-ablation`."""
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
    given = {"training.epochs": args.epochs, "device.name": args.device}
    overrides: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    if args.tasks is not None:
        overrides["data.tasks"] = f"manifest:{args.tasks}"
    config, _ = load_config(JepaConfig, METHOD, training_commands(), args.config, overrides, OLD_KEYS)
    fabric = open_fabric(config.device.name, config.training.precision)
    data = load_data(config, console)
    if len(data.held_out) < 2:
        raise InputError(f"data.held_out must leave two tasks to compare variants on; it leaves {len(data.held_out)}")
    folder = args.output.parent / f"{args.output.stem}_runs"
    console.print(f"writing to {show_path(folder)}", highlight=False, soft_wrap=True)
    found: dict[str, dict[str, float]] = {}
    for name, variant in variants_of(config).items():
        ended, results = train_variant(name, variant, data, folder, fabric, console)
        if ended.status:
            console.print(f"{ended.message}; the same command goes on", highlight=False)
            return ended.status
        found[name] = results
    write_json(
        args.output,
        {
            "variants": found, "data": data.spec, "data_fingerprint": data.table.fingerprint,
            "epochs": config.training.epochs, "seed": config.training.seed, "held_out": len(data.held_out),
            "commit": git_commit(),
        },
    )  # fmt: skip
    picture = args.output.with_suffix(".png")
    draw(found, picture)
    table = Table("", "right", "loss", "isotropy", "codes used", title=f"{len(data.held_out)} held-out tasks")
    for name, results in found.items():
        usage = f"{results['usage_ratio']:.2f}" if "usage_ratio" in results else "-"
        cells = (f"{results['success_rate']:.3f}", f"{results['avg_loss']:.3f}", f"{results['isotropy']:.2f}", usage)
        table.add_row(_label(name), *cells)
    console.print(table)
    console.print(
        f"written to {show_path(args.output)}, drawn in {show_path(picture)}\n"
        "next: uv run train-jepa --config configs/jepa/sigreg.yaml",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
