"""Small data sets and recipes of every trainer, for the pretended GPU."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from arc_core.settings import Precision
from jepa_hrl.dsl.steps import find_step
from jepa_hrl.synthesis.config import GridConfig
from jepa_hrl.synthesis.dataset import manifest_line
from jepa_hrl.synthesis.generator import PhasePlan, make_practice_task

STEPS = ("flip_horizontal", "flip_vertical", "transpose", "rotate_90", "recolor", "tile_across", "keep_color")
_SIZES = (((3, 2), (2, 2)), ((2, 4), (3, 3)), ((5, 5), (6, 4)), ((7, 4), (4, 4)))
_ENCODER = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "latent_dim": 8}
_HRM_VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "hrm": {},
    "hrm-muon": {"training": {"optimizer": "muon", "gradient_clip": 1.0}},
    "hrm-adamw": {
        "model": {"dropout": 0.1, "gradient_checkpointing": True},
        "training": {"optimizer": "adamw", "gradient_clip": 1.0, "gradient_accumulation_steps": 2},
    },
    "trm": {"model": {"architecture": "trm", "no_ACT_continue": True, "puzzle_emb_len": 4}},
    "transformer": {
        "model": {"architecture": "transformer", "halt_max_steps": 1},
        "training": {"optimizer": "adamw", "gradient_clip": 1.0, "loss_type": "softmax_cross_entropy"},
    },
}
_RLAN_VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "rlan": {},
    "rlan-stable": {
        "model": {"use_hyperlora": True}, "loo_training": {"enabled": True},
        "equivariance_training": {"enabled": True, "num_augmentations": 2},
    },
}  # fmt: skip


@dataclass(frozen=True)
class SmallData:
    """Small data sets on disk.

    Attributes:
        tasks: folder of 12 tasks of random cells.
        new_tasks: folder of 3 other tasks.
        manifest: 24 synthetic tasks of one or two steps.
        held_out: 8 others.
        curriculum: 80 others, which the triples of program-jepa are made of.
        triples: where these triples are; the flow of program-jepa writes them.
    """

    tasks: Path
    new_tasks: Path
    manifest: Path
    held_out: Path
    curriculum: Path
    triples: Path


def write_data(folder: Path) -> SmallData:
    """Writes the data sets but for the triples, and returns where they are."""
    files = ("train.jsonl", "held_out.jsonl", "curriculum.jsonl", "triples.jsonl")
    data = SmallData(folder / "train", folder / "new", *(folder / name for name in files))
    rng = np.random.default_rng(0)
    for tasks, count in ((data.tasks, 12), (data.new_tasks, 3)):
        tasks.mkdir(parents=True)
        for number in range(count):
            pairs = [
                {"input": rng.integers(0, 10, source).tolist(), "output": rng.integers(0, 10, target).tolist()}
                for source, target in _SIZES
            ]
            (tasks / f"{tasks.name}{number:02}.json").write_text(json.dumps({"train": pairs[:-1], "test": pairs[-1:]}))
    plan = PhasePlan("easy", tuple(map(find_step, STEPS)), (1, 2), (0.6, 0.4), GridConfig(3, 5), (3, 4))
    for manifest, count, seed in ((data.manifest, 24, 5), (data.held_out, 8, 6), (data.curriculum, 80, 7)):
        manifest.write_text("".join(manifest_line(make_practice_task(plan, number, seed)) for number in range(count)))
    return data


def write_recipe(path: Path, name: str, data: SmallData, precision: Precision, jepa: Path | None = None) -> Path:
    """Writes the small recipe of a name.

    Args:
        path: of the file to write.
        name: a key of `_HRM_VARIANTS` or `_RLAN_VARIANTS`, or "jepa", "program-jepa", "active-reasoner-bc" or
            "active-reasoner".
        data: what to train on.
        precision: to train in.
        jepa: run of program-jepa, for the last two.
    Returns:
        The path.
    """
    if name in _HRM_VARIANTS:
        recipe = _hrm(_HRM_VARIANTS[name], data, precision)
    elif name in _RLAN_VARIANTS:
        recipe = _rlan(_RLAN_VARIANTS[name], data, precision)
    elif name == "jepa":
        recipe = _jepa(data, precision)
    elif name == "program-jepa":
        recipe = _program_jepa(data, precision)
    else:
        recipe = _reasoner(name, data, precision, jepa)
    path.write_text(yaml.safe_dump(recipe))
    return path


def _device(precision: Precision) -> dict[str, Any]:
    return {
        "name": "cuda", "mixed_precision": precision != "float32", "compile": False,
        "dtype": "bfloat16" if precision == "float32" else precision,
    }  # fmt: skip


def _merge(recipe: dict[str, Any], variant: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return recipe | {section: recipe.get(section, {}) | values for section, values in variant.items()}


def _hrm(variant: dict[str, dict[str, Any]], data: SmallData, precision: Precision) -> dict[str, Any]:
    recipe = {
        "method": "hrm",
        "model": {
            "hidden_size": 32, "num_heads": 2, "H_layers": 1, "L_layers": 1, "puzzle_emb_ndim": 32, "expansion": 1.0,
            "halt_max_steps": 3,
        },
        "data": {"train": f"dir:{data.tasks}", "num_augmentations": 3},
        "training": {"max_steps": 4, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 2, "ema_decay": 0.9},
        "device": _device(precision),
        "evaluation": {"adapt_steps": 2},
        "validation": {"eval_frequency": 2, "log_every_steps": 1, "keep_last": 10},
    }  # fmt: skip
    return _merge(recipe, variant)


def _rlan(variant: dict[str, dict[str, Any]], data: SmallData, precision: Precision) -> dict[str, Any]:
    recipe = {
        "method": "rlan",
        "model": {
            "hidden_dim": 16, "num_heads": 2, "num_solver_steps": 2, "context_layers": 1, "spatial_downsample": 2,
        },
        "training": {
            "max_epochs": 2, "batch_size": 4, "grad_accumulation_steps": 2, "learning_rate": 1e-3, "ema_decay": 0.9,
        },
        "data": {"train": f"dir:{data.tasks}", "held_out_fraction": 0.25, "max_demonstrations": 3},
        "device": _device(precision),
        "validation": {
            "every_epochs": 1, "train_tasks": 3, "keep_last": 2, "log_every_steps": 1, "save_every_steps": 2,
        },
    }  # fmt: skip
    return _merge(recipe, variant)


def _jepa(data: SmallData, precision: Precision) -> dict[str, Any]:
    return {
        "method": "jepa",
        "object_encoder": _ENCODER | {"num_embeddings": 16, "vq_refresh_interval": 2},
        "loss": {
            "queue_size": 40, "learnable_temperature": True, "symmetry_weight": 0.01, "color_weight": 0.01,
            "translation_weight": 0.02, "relational_weight": 0.1,
        },
        "sigreg": {"weight": 0.1, "num_slices": 16},
        "optimizer": {"lr": 1e-3, "warmup_steps": 2},
        "training": {
            "epochs": 2, "batch_size": 8, "grad_accum_steps": 2, "pairs_per_task": 3,
            "mixed_precision": _MIXED[precision],
        },
        "data": {"tasks": f"manifest:{data.manifest}", "held_out": 0.2},
        "validation": {"log_every_steps": 1, "keep_last": 10},
        "device": {"name": "cuda"},
    }  # fmt: skip


_MIXED = {"bfloat16": "bf16", "float16": "fp16", "float32": "none"}


def _program_jepa(data: SmallData, precision: Precision) -> dict[str, Any]:
    return {
        "method": "program-jepa",
        "dataset_triples": str(data.triples),
        "actions": list(STEPS),
        "triples": {"held_out": 0.3},
        "object_encoder": _ENCODER | {"vq_enabled": False},
        "program_encoder": {"embedding_dim": 8, "hidden_dim": 8, "num_layers": 2, "transition_dim": 16},
        "loss": {"queue_size": 50, "learnable_temperature": True},
        "sigreg": {"weight": 0.05, "num_slices": 16},
        "optimizer": {"lr": 3e-3, "warmup_steps": 2},
        "training": {
            "epochs": 2, "batch_size": 80, "outcomes_per_grid": 3, "mixed_precision": _MIXED[precision],
        },
        "validation": {"log_every_steps": 1, "keep_last": 20, "max_triples": 64},
        "device": {"name": "cuda"},
    }  # fmt: skip


def _reasoner(name: str, data: SmallData, precision: Precision, jepa: Path | None) -> dict[str, Any]:
    return {
        "method": name,
        "program_checkpoint": str(jepa),
        "env": {"dynamics": "grounded", "max_steps": 3},
        "tasks": {"manifest": str(data.manifest), "held_out_manifest": str(data.held_out), "practice": 0},
        "policy": {"hidden_dim": 16},
        "cloning": {"epochs": 2 if name == "active-reasoner-bc" else 0, "batch_size": 8},
        "trainer": {"iterations": 3, "episodes_per_iter": 8, "steps_per_iter": 4, "minibatches": 2, "epochs": 1},
        "report": {"every": 1, "keep_last": 20},
        "device": {"name": "cuda"},
    }  # fmt: skip
