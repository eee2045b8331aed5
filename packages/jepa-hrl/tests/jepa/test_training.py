"""The JEPA's trainer: learning, resuming, shards, bad input, two processes against one."""

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
from rich.console import Console

from arc_core.checkpoint import list_checkpoints, load_checkpoint
from arc_core.config import load_config
from arc_core.datasets import fingerprint
from arc_core.runs import read_metrics
from arc_core.task import Task, task_to_json
from jepa_hrl.jepa.cli import pretokenize_jepa as pretokenize
from jepa_hrl.jepa.cli import train_jepa as main
from jepa_hrl.jepa.config import AugmentationConfig, JepaConfig
from jepa_hrl.jepa.data import shards as shards_module
from jepa_hrl.jepa.data.batches import DeviceTable, draw_pairs, make_batch
from jepa_hrl.jepa.data.shards import content_fractions, read_shards
from jepa_hrl.jepa.data.token_table import build_table, concatenate_tables
from jepa_hrl.objects.tokens import tokenize

Make = Callable[..., Task]
TORCHRUN = str(Path(sys.executable).parent / "torchrun")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def tasks(random_task: Make) -> list[Task]:
    sizes = [((3, 2), (2, 2)), ((2, 4), (3, 3)), ((5, 5), (6, 4)), ((4, 4), (4, 4))]
    return [random_task(sizes[: 3 + number % 2], seed=number, task_id=f"task{number}") for number in range(24)]


@pytest.fixture
def manifest(tmp_path: Path, tasks: list[Task]) -> Path:
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps({"task_id": task.task_id} | task_to_json(task)) + "\n" for task in tasks))
    return path


def write_config(tmp_path: Path, manifest: Path, **more: dict[str, object]) -> Path:
    values: dict[str, dict[str, object]] = {
        "object_encoder": {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "latent_dim": 8, "num_embeddings": 16,
                           "vq_refresh_interval": 4},
        "loss": {"queue_size": 40, "learnable_temperature": True, "symmetry_weight": 0.01, "color_weight": 0.01,
                 "translation_weight": 0.02},
        "sigreg": {"weight": 0.1, "num_slices": 16},
        "optimizer": {"lr": 1e-3, "warmup_steps": 2},
        "training": {"epochs": 4, "batch_size": 8, "grad_accum_steps": 2, "pairs_per_task": 3},
        "data": {"tasks": f"manifest:{manifest}", "held_out": 0.2},
        "validation": {"log_every_steps": 1, "keep_last": 10},
        "device": {"name": "cpu"},
    }  # fmt: skip
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"method": "jepa"} | {k: v | more.get(k, {}) for k, v in values.items()}))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    out = capsys.readouterr()
    return status, out.out, out.err


def same(first: Path, second: Path) -> None:
    one, two = load_checkpoint(first, "jepa"), load_checkpoint(second, "jepa")
    assert one.step == two.step
    assert one.extras["record"] == two.extras["record"]
    for name in ("model", "ema", "optimizer"):
        leaves = [torch.utils._pytree.tree_leaves(getattr(checkpoint, name)) for checkpoint in (one, two)]
        for a, b in zip(*leaves, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, name


def test_a_table_gives_back_every_grids_tokens(tasks: list[Task]) -> None:
    table = build_table(tasks)
    grids = [grid for task in tasks for pair in task.train + task.test for grid in (pair.input, pair.output)]
    chosen = np.array([5, 0, 17, len(grids) - 1])
    tokens = DeviceTable(table, torch.device("cpu")).tokens(chosen)
    for row, place in enumerate(chosen.tolist()):
        assert grids[place] is not None
        wanted = tokenize([grids[place]])  # type: ignore[list-item]
        found = tokens.objects[tokens.owners == row]
        torch.testing.assert_close(found, torch.from_numpy(wanted.objects), atol=1e-3, rtol=0)
        torch.testing.assert_close(tokens.grids[row], torch.from_numpy(wanted.grids[0]), atol=1e-3, rtol=0)
    halves = concatenate_tables([build_table(tasks[:10]), build_table(tasks[10:])], table.fingerprint)
    for name in ("objects", "grids", "starts", "tasks"):
        assert np.array_equal(getattr(table, name), getattr(halves, name))


@pytest.mark.parametrize("augmentations", [None, AugmentationConfig(mask_ratio=0.5, palette_permutation=True)])
def test_two_shares_of_a_batch_are_the_whole(tasks: list[Task], augmentations: AugmentationConfig | None) -> None:
    table = DeviceTable(build_table(tasks), torch.device("cpu"))
    drawn = draw_pairs(table.table, np.array([3, 8, 1, 20]), 3, np.random.default_rng(0))
    assert np.bincount(drawn.tasks).tolist() == [3, 3, 3, 3]
    whole, *halves = (
        make_batch(table, drawn, augmentations, np.random.default_rng(1), share)
        for share in (slice(None), slice(0, None, 2), slice(1, None, 2))
    )
    for half in halves:
        assert torch.equal(half.tokens.grids, whole.tokens.grids[torch.from_numpy(half.grid_indices)])
        ours = np.isin(whole.global_owners.numpy(), half.grid_indices)
        assert torch.equal(half.global_owners, whole.global_owners[torch.from_numpy(ours)])
        assert torch.equal(half.tokens.objects, whole.tokens.objects[torch.from_numpy(ours)])
    plain = table.tokens(np.concatenate([2 * drawn.pairs, 2 * drawn.pairs + 1]))
    outputs = len(drawn.pairs)
    left = [int((tokens.owners < outputs).sum()) for tokens in (whole.tokens, plain)]
    assert left[0] < 0.8 * left[1] if augmentations else left[0] == left[1]
    assert torch.equal(whole.tokens.owners[left[0] :], plain.owners[left[1] :])  # nothing of an output is hidden
    assert [len(half.tasks) for half in halves] == [6, 6]
    indices = np.concatenate([half.grid_indices for half in halves])
    assert sorted(indices.tolist()) == list(range(whole.num_grids))


def test_a_run_writes_what_the_guide_lists_and_a_resumed_one_is_the_same(
    tmp_path: Path, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, manifest)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    status, out, err = run(capsys, "--config", path, "--run-dir", whole)
    assert status == 0, err
    assert "next: uv run validate-jepa-correlation" in out
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["completed_epochs"] == 4 and metrics["batch_size"] == 8 and len(metrics["losses"]) == 4
    assert metrics["best_val_loss"] == min(metrics["val_losses"])
    assert metrics["early_stopping_epoch"] is None
    lines = [json.loads(line) for line in (whole / "embedding_metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert 0 < lines[-1]["context"]["isotropy"] <= 1 and 0 < lines[-1]["vq"]["usage_ratio"] <= 1
    names = set().union(*read_metrics(whole / "metrics.jsonl"))
    assert names >= {
        "loss/info_nce", "loss/sigreg", "loss/total", "loss/temperature", "val/loss", "optimizer/lr",
        "diagnostics/context/isotropy", "diagnostics/vq/usage_ratio", "loss/relational", "loss/translation",
    }  # fmt: skip
    assert sorted(p.name for p in (whole / "checkpoints").glob("checkpoint_*")) == [
        f"checkpoint_epoch_{epoch:04d}.pt" for epoch in range(1, 5)
    ]
    assert run(capsys, "--config", path, "--run-dir", parted)[0] == 0
    for checkpoint in list_checkpoints(parted / "checkpoints")[:2]:
        checkpoint.unlink()
    status, _, err = run(capsys, "--config", path, "--run-dir", parted, "--resume", "auto")
    assert status == 0, err
    last = list_checkpoints(whole / "checkpoints")[0].name
    same(whole / "checkpoints" / last, parted / "checkpoints" / last)
    for name in ("embedding_metrics.jsonl", "metrics.json"):
        assert (whole / name).read_text() == (parted / name).read_text()


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit_and_ctrl_c_within_an_epoch_too(tmp_path: Path, manifest: Path) -> None:
    path = write_config(tmp_path, manifest, training={"epochs": 12})
    base = [sys.executable, "-m", "jepa_hrl.jepa.cli", "--config", str(path)]
    whole = subprocess.run([*base, "--run-dir", str(tmp_path / "whole")], env=ENVIRONMENT, capture_output=True)
    assert whole.returncode == 0, whole.stderr
    parted = tmp_path / "parted"
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen([*base, "--run-dir", str(parted), "--resume", "auto"], env=ENVIRONMENT,
                                   stdout=subprocess.DEVNULL)  # fmt: skip
        seen = {path.name for path in list_checkpoints(parted / "checkpoints")}
        deadline = time.monotonic() + 60
        while {path.name for path in list_checkpoints(parted / "checkpoints")} == seen and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        process.wait()
    done = subprocess.run([*base, "--run-dir", str(parted), "--resume", "auto"], env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 0, done.stderr
    last = list_checkpoints(tmp_path / "whole" / "checkpoints")[0].name
    same(tmp_path / "whole" / "checkpoints" / last, parted / "checkpoints" / last)


@pytest.mark.slow
def test_two_processes_learn_as_one(tmp_path: Path, manifest: Path) -> None:
    path = write_config(tmp_path, manifest, optimizer={"lr": 1e-4})
    losses = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        launcher = [TORCHRUN, "--nproc-per-node", "2", "--master-port", str(21000 + os.getpid() % 20000)]
        command = ["-m", "jepa_hrl.jepa.cli", "--config", str(path), "--run-dir", str(folder)]
        done = subprocess.run(
            [*(launcher if processes > 1 else [sys.executable]), *command],
            capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("writing to") == 1
        losses.append([line for line in read_metrics(folder / "metrics.jsonl") if "loss/total" in line])
    assert len(losses[0]) == len(losses[1]) > 3
    for one, two in zip(*losses, strict=True):
        for name in one:
            if name.startswith(("loss/", "diagnostics/", "train/")):
                assert one[name] == pytest.approx(two[name], abs=2e-5, rel=2e-4), (name, one["step"])
    first, second = (load_checkpoint(tmp_path / name, "jepa") for name in ("1", "2"))
    for name, value in first.model.items():
        torch.testing.assert_close(value, second.model[name], atol=2e-4, rtol=1e-3)


def test_shards_give_the_same_run_and_stale_or_damaged_ones_are_refused(
    tmp_path: Path, manifest: Path, tasks: list[Task], capsys: pytest.CaptureFixture[str]
) -> None:
    path, shards = write_config(tmp_path, manifest, training={"epochs": 1}), tmp_path / "shards"
    assert pretokenize(["--config", str(path), "--output", str(shards), "--workers", "1"]) == 0
    assert run(capsys, "--config", path, "--run-dir", tmp_path / "plain")[0] == 0
    more = ("--pre_tokenized.path", shards)
    assert run(capsys, "--config", path, "--run-dir", tmp_path / "fast", *more)[0] == 0
    last = list_checkpoints(tmp_path / "plain" / "checkpoints")[0].name
    same(tmp_path / "plain" / "checkpoints" / last, tmp_path / "fast" / "checkpoints" / last)
    written = (shards / "tokens_0000.npz").stat().st_mtime_ns
    assert pretokenize(["--config", str(path), "--output", str(shards), "--workers", "1"]) == 0
    assert (shards / "tokens_0000.npz").stat().st_mtime_ns == written  # whole ones are kept
    config, _ = load_config(JepaConfig, "jepa", {}, path, {})
    for changed in (False, True):  # the same file, whose tasks are not read; another file of the same tasks
        with pytest.MonkeyPatch.context() as patch:
            if not changed:
                patch.setattr(shards_module, "training_tasks", None)
            table, draws = read_shards(shards, config, Console(quiet=True))
        assert np.array_equal(table.objects, build_table(tasks).objects)
        assert np.array_equal(draws, content_fractions(tasks)) and table.fingerprint == fingerprint(tasks)
        if not changed:
            manifest.write_text(manifest.read_text() + "\n")
    for arguments, problem in (
        (("--data.max_tasks", 20), "stale: of tasks"),
        (("--object_encoder.connectivity", 4), "another kind"),
    ):
        status, _, err = run(capsys, "--config", path, *more, *arguments, "--run-dir", tmp_path / "no")
        assert status == 2 and problem in err and err.count("\n") == 1, err
    data = bytearray((shards / "tokens_0000.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (shards / "tokens_0000.npz").write_bytes(bytes(data))
    status, _, err = run(capsys, "--config", path, *more, "--run-dir", tmp_path / "no")
    assert status == 2 and "absent or damaged" in err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--training.batch_size", "64"], "batch_size must be at most"),
        (["--training.batch_size", "7"], "multiple of grad_accum_steps"),
        (["--object_encoder.num_heads", "3"], "multiple of num_heads"),
        (["--loss.temperature", "2"], "temperature must be 0.01..1 with learnable_temperature true; got 2"),
        (["--data.tasks", "arc1:eval"], "arc1:eval"),
        (["--training.mixed_precision", "fp8"], "fp16, bf16, none"),
        (["--loss.temperatur", "1"], "did you mean"),
        (["--pre_tokenized.path", "nowhere"], "has no index"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(
    tmp_path: Path, manifest: Path, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, manifest)
    status, _, err = run(capsys, "--config", path, "--run-dir", tmp_path / "run", *arguments)
    assert status == 2
    assert problem in err
    assert err.count("\n") == 1


def test_keys_of_the_guide_that_are_not_needed_are_accepted_with_a_line(
    tmp_path: Path, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, manifest)
    keys = ["training.num_workers", "training.pin_memory", "training.checkpoint_dir", "logging.flush_secs"]
    flags = [part for key in keys for part in (f"--{key}", "1")]
    status, out, _ = run(
        capsys, "--config", path, *flags, "--training.queue_size", 64, "--mixed-precision", "bf16", "--print-config"
    )
    assert status == 0
    assert all(f"{key} is accepted and not needed" in out for key in keys)
    assert "training.queue_size is now called loss.queue_size" in out
    assert "queue_size: 64" in out and "mixed_precision: bf16" in out


def test_a_curriculum_is_generated_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jepa_hrl.jepa.data import tasks as module

    (tmp_path / "configs" / "data").mkdir(parents=True)
    recipe = {
        "name": "little", "task_schedule": {"one": {"count": 3, "primitives": ["flip_horizontal", "fall_down"]}},
        "program": {"length_schedule": {"one": {1: 1.0}}},
    }  # fmt: skip
    (tmp_path / "configs" / "data" / "little.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(module, "workspace_folder", lambda: tmp_path)
    found = module.curriculum_manifest("little", Console(quiet=True))
    assert len(found.read_text().splitlines()) == 3
    before = found.stat().st_mtime_ns
    assert module.curriculum_manifest("little", Console(quiet=True)).stat().st_mtime_ns == before
