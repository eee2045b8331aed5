"""Two gloo processes on the CPU against one: networks, puzzle embeddings and the carry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from arc_core.checkpoint import Checkpoint, load_checkpoint
from arc_core.config import config_to_yaml
from arc_core.runs import read_metrics
from hrm.config import DataConfig, HrmConfig, ModelConfig, TrainingConfig, ValidationConfig

pytestmark = pytest.mark.slow
TORCHRUN = str(Path(sys.executable).parent / "torchrun")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """20 steps; AdamW at a small rate, so that rounding is not blown up where gradients are near zero."""
    config = HrmConfig(
        ModelConfig(
            hidden_size=16, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=16, expansion=1.0, halt_max_steps=3
        ),
        TrainingConfig(max_steps=20, batch_size=8, optimizer="adamw", learning_rate=5e-5, warmup_steps=1),
        DataConfig(max_tasks=6, max_side=6, num_augmentations=2),
        validation=ValidationConfig(eval_frequency=10, max_puzzles=4, log_every_steps=1),
    )  # fmt: skip
    path = tmp_path / "tiny.yaml"
    path.write_text(config_to_yaml(config, "hrm"))
    return path


def run(processes: int, recipe: Path, folder: Path, *arguments: str) -> str:
    launcher = [TORCHRUN, "--nproc-per-node", str(processes), "--master-port", str(21000 + os.getpid() % 20000)]
    command = ["-m", "hrm", "--config", str(recipe), "--run-dir", str(folder), "--device", "cpu", *arguments]
    done = subprocess.run(
        [*(launcher if processes > 1 else [sys.executable]), *command],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def losses(folder: Path) -> list[float]:
    return [line["train/loss"] for line in read_metrics(folder / "metrics.jsonl") if "train/loss" in line]


def assert_close(first: Checkpoint, second: Checkpoint) -> None:
    for name, value in first.model.items():
        torch.testing.assert_close(value, second.model[name], atol=1e-4, rtol=1e-3)
    carries = [checkpoint.extras["carries"] for checkpoint in (first, second)]
    assert isinstance(carries[0], dict) and isinstance(carries[1], dict)
    for side, carry in carries[0].items():
        for name in ("examples", "origins", "steps", "halted"):
            assert torch.equal(carry[name], carries[1][side][name]), (side, name)


def test_two_processes_learn_as_one_and_exchange_checkpoints(tmp_path: Path, recipe: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run(1, recipe, one)
    output = run(2, recipe, two)
    assert output.count("writing to") == 1
    single, double = losses(one), losses(two)
    assert len(single) == len(double) == 20
    assert max(abs(a - b) for a, b in zip(single, double, strict=True)) < 1e-5
    assert_close(load_checkpoint(one, "hrm"), load_checkpoint(two, "hrm"))
    for folder, processes in ((one, 2), (two, 1)):  # a run of one number of processes goes on with the other
        (folder / "checkpoints" / "step_00000020.pt").unlink()
        (folder / "checkpoints" / "last.json").unlink()
        run(processes, recipe, folder, "--resume", "auto")
    again = [losses(folder) for folder in (one, two)]
    assert max(abs(a - b) for a, b in zip(*again, strict=True)) < 1e-5
    assert max(abs(a - b) for a, b in zip(single, again[0], strict=True)) < 1e-5
