"""A small version of every long command: how to start it, how much it has saved, and its result."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from arc_core.checkpoint import list_checkpoints
from jepa_hrl.dsl.steps import find_step
from jepa_hrl.synthesis.config import GridConfig
from jepa_hrl.synthesis.dataset import manifest_line
from jepa_hrl.synthesis.generator import PhasePlan, make_practice_task
from jepa_hrl.world_model.cli import prepare_program_triples as prepare_triples

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "500"}
STEPS = ("flip_horizontal", "flip_vertical", "transpose", "rotate_90", "recolor", "tile_across", "keep_color")
ENCODER = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "latent_dim": 8, "vq_enabled": False}
TRAINERS = ("rlan", "hrm", "jepa", "program-jepa", "active-reasoner-bc", "active-reasoner")
JOBS = (*TRAINERS, "compare")


@dataclass(frozen=True)
class Job:
    """A long command.

    Attributes:
        name: name of the method, or "compare".
        command: arguments of Python without the output folder.
        folder_switch: flag that names the output folder.
        again: arguments that resume it.
    """

    name: str
    command: tuple[str, ...]
    folder_switch: str = "--run-dir"
    again: tuple[str, ...] = ("--resume", "auto")

    def start(self, folder: Path, **options: Any) -> "subprocess.Popen[str]":
        """Starts or resumes the command in a session of its own."""
        return subprocess.Popen(
            [sys.executable, *self.command, self.folder_switch, str(folder), *self.again],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, start_new_session=True,
            **options,
        )  # fmt: skip

    def run(self, folder: Path, **options: Any) -> tuple[int, str]:
        """Runs the command and returns its exit status and its output."""
        process = self.start(folder, **options)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def saved(self, folder: Path) -> int:
        """Returns the step of the newest checkpoint, or the number of stored predictions."""
        if self.name == "compare":
            stored = folder / "predictions.jsonl"
            return stored.read_bytes().count(b"\n") if stored.exists() else 0
        checkpoints = list_checkpoints(folder / "checkpoints")
        return int(checkpoints[0].stem.removeprefix("step_")) if checkpoints else 0

    def wait_until_saved(self, process: "subprocess.Popen[str]", folder: Path, more_than: int) -> None:
        """Waits until the command has saved more than `more_than`, or has ended."""
        while process.poll() is None and self.saved(folder) <= more_than:
            time.sleep(0.01)

    def result(self, folder: Path) -> str:
        """Returns a hash of its results: weights and optimiser state, or answers."""
        digest = hashlib.sha256()
        if self.name == "compare":
            lines = map(json.loads, (folder / "predictions.jsonl").read_text().splitlines())
            for line in sorted(lines, key=lambda line: (line["method"], line["task_id"])):
                digest.update(json.dumps([line["task_id"], line["candidates"], line["programs"]]).encode())
            return digest.hexdigest()
        last = torch.load(list_checkpoints(folder / "checkpoints")[0], weights_only=True)
        for name in ("step", "model", "optimizer", "ema"):
            for leaf in torch.utils._pytree.tree_leaves(last[name]):
                digest.update(leaf.numpy().tobytes() if isinstance(leaf, torch.Tensor) else repr(leaf).encode())
        return digest.hexdigest()


def _manifest(path: Path, count: int, seed: int) -> Path:
    plan = PhasePlan("easy", tuple(map(find_step, STEPS)), (1, 2), (0.6, 0.4), GridConfig(3, 5), (3, 4))
    path.write_text("".join(manifest_line(make_practice_task(plan, number, seed)) for number in range(count)))
    return path


@pytest.fixture(scope="session")
def job_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Job]:
    """Returns a function that makes jobs by name; inputs that come from another job are made when first needed."""
    root = tmp_path_factory.mktemp("jobs")
    train, held_out = _manifest(root / "train.jsonl", 24, 5), _manifest(root / "held_out.jsonl", 8, 6)
    jobs: dict[str, Job] = {}

    def trainer(name: str, module: str, **sections: Any) -> Job:
        file = root / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"method": name, "device": {"name": "cpu"}} | sections))
        return Job(name, ("-m", module, "--config", str(file)))

    def reasoner(name: str, module: str) -> Job:
        jepa = job("program-jepa")
        if not (root / "jepa").exists():
            status, output = jepa.run(root / "jepa")
            assert status == 0, output
        return trainer(
            name, module, program_checkpoint=str(root / "jepa"), env={"dynamics": "grounded", "max_steps": 3},
            tasks={"manifest": str(train), "held_out_manifest": str(held_out), "practice": 0},
            policy={"hidden_dim": 16}, cloning={"epochs": 60 if name.endswith("bc") else 0, "batch_size": 16},
            trainer={"iterations": 12, "episodes_per_iter": 8, "steps_per_iter": 4, "minibatches": 2, "epochs": 1},
            report={"every": 1, "keep_last": 80},
        )  # fmt: skip

    def make(name: str) -> Job:
        if name == "rlan":
            return trainer(
                name, "rlan",
                model={"hidden_dim": 16, "num_heads": 2, "num_solver_steps": 2, "context_layers": 1,
                       "spatial_downsample": 2},
                training={"max_epochs": 6, "batch_size": 4, "grad_accumulation_steps": 1},
                data={"train": f"manifest:{train}", "held_out_fraction": 0.25},
                validation={"every_epochs": 3, "train_tasks": 3, "keep_last": 40, "log_every_steps": 1,
                            "save_every_steps": 2},
            )  # fmt: skip
        if name == "hrm":
            return trainer(
                name, "hrm",
                model={"hidden_size": 32, "num_heads": 2, "H_layers": 1, "L_layers": 1, "puzzle_emb_ndim": 32,
                       "halt_max_steps": 2},
                training={"max_steps": 40, "batch_size": 4, "warmup_steps": 2, "ema_decay": 0.9},
                data={"train": f"manifest:{train}", "num_augmentations": 3},
                validation={"eval_frequency": 20, "checkpoint_frequency": 2, "log_every_steps": 1, "keep_last": 40},
            )  # fmt: skip
        if name == "jepa":
            return trainer(
                name, "jepa_hrl.jepa.cli", object_encoder=ENCODER, loss={"queue_size": 40},
                training={"epochs": 16, "batch_size": 8, "grad_accum_steps": 1, "pairs_per_task": 3},
                data={"tasks": f"manifest:{train}", "held_out": 0.2},
                validation={"log_every_steps": 1, "keep_last": 40},
            )  # fmt: skip
        if name == "program-jepa":
            triples, many = root / "triples.jsonl", _manifest(root / "many.jsonl", 80, 7)
            assert prepare_triples(
                ["--manifest", str(many), "--output", str(triples), "--explored", "4", "--workers", "1"]
            ) == 0  # fmt: skip
            return trainer(
                name, "jepa_hrl.world_model.cli", dataset_triples=str(triples), actions=list(STEPS),
                triples={"held_out": 0.3}, object_encoder=ENCODER,
                program_encoder={"embedding_dim": 8, "hidden_dim": 8, "num_layers": 2, "transition_dim": 16},
                loss={"queue_size": 50}, training={"epochs": 12, "batch_size": 16, "outcomes_per_grid": 3},
                validation={"log_every_steps": 1, "keep_last": 40, "max_triples": 64},
            )  # fmt: skip
        if name == "compare":
            return Job(
                name,
                ("-m", "arc_eval.cli", "compare", "--data", f"manifest:{train}", "--programs-per-task", "3000",
                 "--views", "1", "--methods", "identity", "dsl"),
                "--out", (),
            )  # fmt: skip
        module = "imitation.cli" if name == "active-reasoner-bc" else "ppo.cli"
        return reasoner(name, f"jepa_hrl.rl.{module}")

    def job(name: str) -> Job:
        if name not in jobs:
            jobs[name] = make(name)
        return jobs[name]

    return job


@pytest.fixture(scope="session")
def reference_run(job_of: Callable[[str], Job], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a function that runs a job without interruption and returns its folder."""
    root = tmp_path_factory.mktemp("reference")

    def run(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            status, output = job_of(name).run(folder)
            assert status == 0, output
        return folder

    return run
