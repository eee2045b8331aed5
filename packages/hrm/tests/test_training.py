"""The trainer: learning, resuming, several processes' shares, bad input."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning_fabric import Fabric

from arc_core.checkpoint import list_checkpoints, load_checkpoint
from arc_core.loop import open_fabric
from arc_core.runs import RunFolder, read_metrics
from arc_core.task import Task
from hrm.cli import main
from hrm.config import DataConfig, HrmConfig, ModelConfig, TrainingConfig
from hrm.data.training_data import load_training_data
from hrm.metrics import EvaluationSet
from hrm.trainer import Trainer

Make = Callable[..., Task]
MODEL: dict[str, object] = {
    "hidden_size": 32, "num_heads": 2, "H_layers": 1, "L_layers": 1, "puzzle_emb_ndim": 32, "expansion": 1.0,
    "halt_max_steps": 3,
}  # fmt: skip


def write_config(tmp_path: Path, task_folder: Path, **training: object) -> Path:
    path = tmp_path / "tiny.yaml"
    values = {
        "method": "hrm", "model": MODEL, "data": {"train": f"dir:{task_folder}@train", "num_augmentations": 3},
        "training": {"max_steps": 12, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 2, "ema_decay": 0.9}
        | training,
        "device": {"mixed_precision": False, "name": "cpu"},
        "validation": {"eval_frequency": 6, "log_every_steps": 1, "keep_last": 10},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(values))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    out = capsys.readouterr()
    return status, out.out, out.err


def assert_same(first: Path, second: Path) -> None:
    one, two = load_checkpoint(first, "hrm"), load_checkpoint(second, "hrm")
    assert one.step == two.step
    for name, value in one.model.items():
        assert torch.equal(value, two.model[name]), name
    for name, value in one.ema.items():
        assert torch.equal(value, two.ema[name]), name
    carries = [checkpoint.extras["carries"] for checkpoint in (one, two)]
    flat = [torch.utils._pytree.tree_leaves(carry) for carry in carries]
    for a, b in zip(*flat, strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["hrm", "trm", "transformer"])
def test_eight_puzzles_are_overfitted_to_100_percent_exact(
    architecture: str, tmp_path: Path, random_task: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [random_task([((4, 4), (4, 4))], seed=seed, task_id=f"t{seed}") for seed in range(8)]
    monkeypatch.setattr("hrm.data.training_data.load_training_tasks", lambda spec: tasks)
    config = HrmConfig(
        ModelConfig(
            architecture=architecture, hidden_size=64, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=64,  # type: ignore[arg-type]
            expansion=2.0, halt_max_steps=2,
        ),
        TrainingConfig(
            max_steps=600, batch_size=8, learning_rate=1e-3, warmup_steps=10, weight_decay=0.0, lr_min_ratio=0.0
        ),
        DataConfig(train="made", num_augmentations=0, held_out_views=0, translation=False),
    )  # fmt: skip
    fabric = open_fabric("cpu", "float32")
    data = load_training_data(config.data, 0, fabric.device)
    trainer = Trainer(config, data, RunFolder(tmp_path), fabric)
    exact = 0.0
    while exact < 1.0 and trainer.step < 600:  # how many steps it takes differs from processor to processor
        for _ in range(50):
            trainer.training_step()
        exact = trainer.score(EvaluationSet.from_examples(data, data.train))["exact_accuracy"]
    assert exact == 1.0


def test_a_carry_is_kept_and_stored_in_the_type_of_autocast_and_a_wider_one_loads(
    tmp_path: Path, task_folder: Path
) -> None:
    config = HrmConfig(
        ModelConfig(hidden_size=16, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=16, expansion=1.0),
        TrainingConfig(max_steps=2, batch_size=4),
        DataConfig(train=f"dir:{task_folder}@train", num_augmentations=1),
    )
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    data = load_training_data(config.data, 0, fabric.device)
    trainer, other = (Trainer(config, data, RunFolder(tmp_path / name), fabric) for name in ("one", "other"))
    trainer.training_step()
    checkpoint = copy.deepcopy(trainer.state())
    for stored in checkpoint.extras["carries"].values():  # type: ignore[attr-defined]  # a mapping of mappings
        assert stored["high"].dtype == stored["low"].dtype == torch.bfloat16
        stored["high"], stored["low"] = stored["high"].float(), stored["low"].float()  # as earlier versions wrote it
    other.load(checkpoint)
    for trained in (trainer, other):
        trained.training_step()
    for name, weight in trainer.network.state_dict().items():
        assert torch.equal(weight, other.network.state_dict()[name]), name


def test_a_carry_is_stored_under_names_that_never_change_and_loads_from_them(tmp_path: Path, task_folder: Path) -> None:
    config = HrmConfig(
        ModelConfig(hidden_size=16, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=16, expansion=1.0),
        TrainingConfig(max_steps=2, batch_size=4),
        DataConfig(train=f"dir:{task_folder}@train", num_augmentations=1),
    )
    fabric = open_fabric("cpu", "float32")
    data = load_training_data(config.data, 0, fabric.device)
    trainer, other = (Trainer(config, data, RunFolder(tmp_path / name), fabric) for name in ("one", "other"))
    trainer.training_step()
    ((side, carry),) = trainer.carries.items()
    assert carry.state is not None
    checkpoint = trainer.state()
    stored = checkpoint.extras["carries"][str(side)]  # type: ignore[index]
    assert stored.keys() == {"high", "low", "steps", "halted", "examples", "origins", "taken"}
    assert torch.equal(stored["high"], carry.state.z_H)
    assert torch.equal(stored["low"], carry.state.z_L)
    assert np.array_equal(stored["origins"], carry.offsets)
    assert stored["taken"] == carry.examples_drawn == 4
    other.load(checkpoint)
    loaded = other.carries[side]
    assert loaded.state is not None
    assert torch.equal(loaded.state.z_H, carry.state.z_H)
    assert torch.equal(loaded.state.z_L, carry.state.z_L)
    assert np.array_equal(loaded.offsets, carry.offsets)
    assert loaded.examples_drawn == 4


@pytest.mark.slow
def test_a_run_writes_its_folder_and_a_resumed_one_equals_it(
    tmp_path: Path, task_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, single, resumed = write_config(tmp_path, task_folder), tmp_path / "single", tmp_path / "resumed"
    status, out, err = run(capsys, "--config", path, "--run-dir", single)
    assert status == 0, err
    assert "identity" in out
    assert "next: uv run eval compare" in out
    summary = json.loads((single / "summary.json").read_text())
    assert set(summary["results"]["held-out views"]) == {"hrm", "identity"}
    assert run(capsys, "--config", path, "--run-dir", resumed)[0] == 0
    for checkpoint in list_checkpoints(resumed / "checkpoints")[:1]:
        checkpoint.unlink()  # as if stopped after step 6
    status, out, err = run(capsys, "--config", path, "--run-dir", resumed, "--resume", "auto")
    assert status == 0, err
    assert_same(single / "checkpoints" / "step_00000012.pt", resumed / "checkpoints" / "step_00000012.pt")
    lines = [read_metrics(folder / "metrics.jsonl") for folder in (single, resumed)]
    plain = [[{k: v for k, v in line.items() if not k.startswith("time/")} for line in run] for run in lines]
    assert plain[0] == plain[1]


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path, task_folder: Path) -> None:
    path = write_config(tmp_path, task_folder, max_steps=60)
    base = [sys.executable, "-m", "hrm", "--config", str(path), "--validation.checkpoint_frequency", "7"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    single = subprocess.run([*base, "--run-dir", str(tmp_path / "single")], env=environment, capture_output=True)
    assert single.returncode == 0, single.stderr
    killed = tmp_path / "killed"
    for _ in range(2):
        process = subprocess.Popen([*base, "--run-dir", str(killed), "--resume", "auto"], env=environment,
                                   stdout=subprocess.DEVNULL)  # fmt: skip
        seen = {path.name for path in list_checkpoints(killed / "checkpoints")}
        deadline = time.monotonic() + 60
        while {path.name for path in list_checkpoints(killed / "checkpoints")} == seen and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run([*base, "--run-dir", str(killed), "--resume", "auto"], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "single" / "checkpoints" / "step_00000060.pt", killed / "checkpoints" / "step_00000060.pt")


@pytest.mark.slow
def test_accumulated_segments_and_every_optimizer_run(
    tmp_path: Path, task_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, task_folder, max_steps=2)
    for name in ("adamw", "muon"):
        more = [
            "--training.optimizer",
            name,
            "--training.gradient_accumulation_steps",
            2,
            "--training.gradient_clip",
            1.0,
        ]
        more += ["--model.dropout", 0.1, "--data.canvas", "full" if name == "muon" else "bucket"]
        status, _, err = run(capsys, "--config", path, "--run-dir", tmp_path / name, *more)
        assert status == 0, err


@pytest.mark.slow
def test_early_stopping_ends_a_run_that_stands_still(
    tmp_path: Path, task_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, task_folder, learning_rate=1e-12, early_stopping=2, max_steps=60, puzzle_emb_lr=0.0)
    status, out, _ = run(capsys, "--config", path, "--run-dir", tmp_path / "run")
    assert status == 0
    assert "stopping early" in out
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 18


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--data.held_out_views", "9"], "held_out_views must be at most num_augmentations = 3"),
        (["--model.hidden_size", "30"], "hidden_size must be a multiple of 2 * num_heads = 4"),
        (["--data.dataset", "nowhere"], "data.dataset must be a folder that build-arc-dataset wrote"),
        (["--data.max_side", "1"], "data.train must leave a task"),
        (["--validation.wandb", "true"], "validation.wandb needs the extra"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(
    arguments: list[str], part: str, tmp_path: Path, task_folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    path = write_config(tmp_path, task_folder)
    status, _, err = run(capsys, "--config", path, "--run-dir", tmp_path / "r", *arguments)
    assert status == 2
    assert part in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_batch_finder_measures_growing_batches(
    tmp_path: Path, task_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrm.batch_finder._MAX_SECONDS", 0.0)
    status, out, err = run(capsys, "--config", write_config(tmp_path, task_folder), "--find-batch-size")
    assert status == 0, err
    assert "fastest" in out
    assert "--training.batch_size 1 --training.gradient_accumulation_steps 4" in out
