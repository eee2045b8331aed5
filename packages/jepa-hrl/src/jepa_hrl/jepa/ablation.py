"""An ablation of the objective: the same training with one loss after another switched on.

Variants share data, seed, epochs and all else. Each trains in a run folder of its own; a finished variant is not
trained again, and an interrupted one is resumed.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lightning_fabric import Fabric
from rich.console import Console

from arc_core.checkpoint import latest_valid_checkpoint
from arc_core.config import config_to_dict, config_to_yaml
from arc_core.files import write_atomically, write_json, write_text
from arc_core.loop import TrainingResult
from arc_core.progress import Progress
from arc_core.render import figure_to_png
from arc_core.runs import RunFolder, git_commit
from arc_core.training_command import check_resumable, train_to_end
from jepa_hrl.jepa.config import METHOD, JepaConfig
from jepa_hrl.jepa.data.dataset import JepaData
from jepa_hrl.jepa.trainer import Trainer, out_of_memory_advice

# Weights of losses that the recipe itself switches off.
_SIGREG = 0.1
_INVARIANCE = 0.02
_RELATIONAL = 0.05


def variants_of(config: JepaConfig) -> dict[str, JepaConfig]:
    """Returns a recipe's variants by name, each with one more part of the objective than the one before."""
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
) -> tuple[TrainingResult, dict[str, float]]:
    """Trains a variant, or resumes its training, and scores its last weights on the held-out tasks.

    Args:
        name: of the variant.
        config: its recipe.
        data: the tasks that all variants share.
        folder: of the variants' run folders.
        fabric: the device.
        console: shows the progress.
    Returns:
        How training ended, and the results; without results if it was stopped.
    """
    run = RunFolder(folder / name)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    if run.summary.exists():
        stored = json.loads(run.summary.read_text(encoding="utf-8"))
        console.print(f"{name}: trained before", highlight=False)
        return TrainingResult(stored["steps"], 0), dict(stored["results"])
    trainer = Trainer(config, data, run, fabric)
    newest = latest_valid_checkpoint(run.checkpoints, METHOD)
    if newest is not None:
        check_resumable(newest[0], config_to_dict(config), data.table.fingerprint)
        trainer.load(newest[0])
    write_text(run.config, config_to_yaml(config, METHOD))
    began = time.perf_counter()
    progress = Progress(console, trainer.total_steps, name, trainer.step)
    ended = train_to_end(trainer.train, progress, fabric, run, out_of_memory_advice(config))
    if ended.status:
        return ended, {}
    metrics = trainer.score()
    results = {
        "success_rate": metrics["val/retrieval_top1"], "avg_loss": metrics["val/loss"],
        "isotropy": metrics["diagnostics/context/isotropy"], "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    if trainer.model.encoder.quantizer is not None:
        results["usage_ratio"] = float(trainer.model.encoder.quantizer.usage)
    write_json(run.summary, {"method": METHOD, "steps": ended.step, "results": results, "commit": git_commit()})
    return ended, results


def variant_label(name: str) -> str:
    """Names a variant by the part that it adds."""
    return "infonce alone" if name == "infonce_only" else f"+ {name.rpartition('_')[2]}"


def draw_variants(variants: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draws the success rate and isotropy of each variant as bars, as a PNG."""
    # Imported here: matplotlib takes most of a second.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 0.6 * len(variants) + 1.2), layout="constrained", dpi=110)
    axes = figure.subplots(1, 2, sharey=True)
    names = list(map(variant_label, variants))
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
