"""Two gloo processes on the CPU against one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arc_core.checkpoint import list_checkpoints, load_checkpoint
from arc_core.config import config_to_yaml
from arc_core.runs import read_metrics
from rlan.config import (
    DataConfig,
    EquivarianceConfig,
    LooConfig,
    ModelConfig,
    RlanConfig,
    TrainingConfig,
    ValidationConfig,
)

pytestmark = pytest.mark.slow
# Adam divides by the size of a gradient, so where that is near zero rounding moves weights by up to the learning rate;
# with small rates what is compared is the arithmetic, not the chaos that follows.
RATES = {"learning_rate": 5e-5, "hyperlora_lr_multiplier": 1.0}
TORCHRUN = str(Path(sys.executable).parent / "torchrun")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """20 steps on small tasks with everything on."""
    config = RlanConfig(
        ModelConfig(16, 2, num_heads=2, context_layers=1, spatial_downsample=2, use_hyperlora=True),
        TrainingConfig(max_epochs=4, batch_size=8, grad_accumulation_steps=1, scheduler="constant", **RATES),
        DataConfig(held_out_fraction=0.0, max_side=6, max_demonstrations=3),
        LooConfig(enabled=True),
        EquivarianceConfig(enabled=True, num_augmentations=2),
        validation=ValidationConfig(every_epochs=2, train_tasks=2, log_every_steps=1),
    )
    path = tmp_path / "tiny.yaml"
    path.write_text(config_to_yaml(config, "rlan"))
    return path


def start(processes: int, recipe: Path, run: Path, *arguments: str) -> subprocess.Popen[str]:
    launcher = [TORCHRUN, "--nproc-per-node", str(processes), "--master-port", str(20000 + os.getpid() % 20000)]
    command = ["-m", "rlan", "--config", str(recipe), "--run-dir", str(run), "--device", "cpu", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*(launcher if processes > 1 else [sys.executable]), *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def losses(run: Path) -> dict[int, float]:
    lines = read_metrics(run / "metrics.jsonl")
    return {int(line["step"]): line["train/total_loss"] for line in lines if "train/total_loss" in line}


def test_two_processes_learn_as_one_and_exchange_checkpoints(tmp_path: Path, recipe: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(1, recipe, one))
    output = finish(start(2, recipe, two))
    assert output.count("writing to") == 1
    single, double = losses(one), losses(two)
    assert single.keys() == double.keys()
    assert len(single) >= 20
    for step in list(single)[:20]:
        assert double[step] == pytest.approx(single[step], abs=1e-5), step
    # Each continues what the other began.
    for run, processes in ((one, 2), (two, 1)):
        for path in list_checkpoints(run / "checkpoints")[:1]:
            path.unlink()
        last = load_checkpoint(list_checkpoints(run / "checkpoints")[0], "rlan").step
        assert f"from step {last}" in finish(start(processes, recipe, run, "--resume", "auto"))
        for step, loss in losses(run).items():
            assert loss == pytest.approx(single[step], abs=1e-4), step


def test_a_lost_process_ends_the_run_with_a_clear_error_and_a_whole_checkpoint(tmp_path: Path, recipe: Path) -> None:
    run = tmp_path / "run"
    process = start(2, recipe, run, "--training.max_epochs", "2000", "--validation.save_every_steps", "3")
    deadline = time.monotonic() + 120
    while not list_checkpoints(run / "checkpoints"):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(found[-1]), signal.SIGKILL)
    output = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "lost the others" in output or "Signal 9 (SIGKILL)" in output
    newest = list_checkpoints(run / "checkpoints")[0]
    assert load_checkpoint(newest, "rlan").step == int(newest.stem[5:])
