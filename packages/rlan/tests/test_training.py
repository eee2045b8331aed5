import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from arc_core.checkpoint import checkpoint_path, list_checkpoints, load_checkpoint
from arc_core.config import config_to_yaml, load_config
from arc_core.errors import RunFailure
from arc_core.loop import open_fabric
from arc_core.runs import TIMING_PREFIX, RunFolder, read_metrics
from rlan.cli import main
from rlan.config import OLD_KEYS, DataConfig, ModelConfig, RlanConfig, TrainingConfig, ValidationConfig
from rlan.config_checks import check_stable_recipe
from rlan.data.task_split import split_tasks
from rlan.trainer import Trainer

TINY = ModelConfig(hidden_dim=16, num_heads=2, num_solver_steps=2, context_layers=1, spatial_downsample=2)


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen small tasks in a folder that is named a training set."""
    import numpy as np

    folder = tmp_path_factory.mktemp("data") / "train"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        pairs = [{"input": g.tolist(), "output": g[::-1].tolist()} for g in rng.integers(0, 4, (4, 3, 3))]
        (folder / f"task{number:02}.json").write_text(json.dumps({"train": pairs[:3], "test": pairs[3:]}))
    return folder


def config(data: Path, **training: object) -> RlanConfig:
    values: dict[str, object] = {"max_epochs": 6, "batch_size": 4, "grad_accumulation_steps": 1, "learning_rate": 1e-3}
    return RlanConfig(
        TINY,
        TrainingConfig(**(values | training)),  # type: ignore[arg-type]
        DataConfig(train=f"dir:{data}", held_out_fraction=0.25, max_demonstrations=3),
        validation=ValidationConfig(every_epochs=2, train_tasks=3, keep_last=2, log_every_steps=1, save_every_steps=2),
    )


def write_config(folder: Path, data: Path, **training: object) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(config_to_yaml(config(data, **training), "rlan"))
    return path


def start(path: Path, run: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "rlan",
        "--config",
        str(path),
        "--run-dir",
        str(run),
        "--device",
        "cpu",
        *arguments,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def last_step(run: Path) -> int:
    lines = read_metrics(run / "metrics.jsonl") if (run / "metrics.jsonl").exists() else []
    return int(lines[-1]["step"]) if lines else 0


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while last_step(run) < step:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def comparable(run: Path) -> list[dict[str, float]]:
    lines = read_metrics(run / "metrics.jsonl")
    return [{key: value for key, value in line.items() if not key.startswith(TIMING_PREFIX)} for line in lines]


def assert_same_checkpoints(one: Path, other: Path) -> None:
    first, second = (load_checkpoint(list_checkpoints(run / "checkpoints")[0], "rlan") for run in (one, other))
    assert first.step == second.step
    for name, weight in first.model.items():
        assert torch.equal(weight, second.model[name]), name
    for name, average in first.ema.items():
        assert torch.equal(average, second.ema[name]), name
    assert first.best_metric == second.best_metric
    assert first.extras == second.extras
    assert str(first.optimizer) == str(second.optimizer)


@pytest.mark.slow
def test_killed_at_random_steps_and_resumed_equals_uninterrupted_exactly(tmp_path: Path, tasks_folder: Path) -> None:
    path = write_config(tmp_path, tasks_folder, ema_decay=0.9, grad_accumulation_steps=2, max_epochs=10)
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    process = start(path, uninterrupted)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    steps = last_step(uninterrupted)
    for target in sorted(random.Random(os.getpid()).sample(range(1, steps - 1), 3)):
        process = start(path, resumed, "--resume", "auto")
        wait_for_step(process, resumed, target)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = start(path, resumed, "--resume", "auto")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert comparable(resumed) == comparable(uninterrupted)
    assert_same_checkpoints(resumed, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_saves_and_has_its_own_status(
    tmp_path: Path, tasks_folder: Path, sent: signal.Signals, status: int
) -> None:
    path = write_config(tmp_path, tasks_folder, max_epochs=2000)
    run = tmp_path / "run"
    process = start(path, run)
    wait_for_step(process, run, 3)
    process.send_signal(sent)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == status, output
    assert "continue with: uv run --package rlan train --resume" in output
    newest = load_checkpoint(list_checkpoints(run / "checkpoints")[0], "rlan")
    assert newest.step == last_step(run)


def make_trainer(tmp_path: Path, settings: RlanConfig) -> Trainer:
    run = RunFolder(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    return Trainer(settings, split_tasks(settings.data), run, open_fabric("cpu", "float32"))


def test_a_loss_that_is_no_number_stops_and_saves_nothing(tmp_path: Path, tasks_folder: Path) -> None:
    trainer = make_trainer(tmp_path, config(tasks_folder))
    trainer.training_step()
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    with torch.no_grad():
        trainer.model.solver.start_gain.fill_(float("nan"))
    with pytest.raises(RunFailure, match="loss of step 2 is nan"):
        trainer.training_step()
    for name, weight in trainer.model.state_dict().items():
        assert name == "solver.start_gain" or torch.equal(weight, before[name])
    assert list_checkpoints(trainer.run.checkpoints) == []


def test_accumulated_parts_equal_one_large_batch(
    tmp_path: Path, tasks_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = []
    for index, (size, parts) in enumerate(((8, 1), (2, 4))):
        # Losses over the batch as a whole (predicates, class weights) are other losses on parts of it.
        settings = config(tasks_folder, batch_size=size, grad_accumulation_steps=parts, lambda_predicate=0.0)
        trainer = make_trainer(tmp_path / str(index), settings)
        monkeypatch.setattr(trainer.optimizer, "zero_grad", lambda: None)
        trainer.training_step()
        grads = [p.grad for p in trainer.model.parameters()]
        gradients.append(torch.cat([grad.flatten() for grad in grads if grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=5e-6)


def test_validation_uses_averaged_weights_and_puts_the_own_ones_back(tmp_path: Path, tasks_folder: Path) -> None:
    trainer = make_trainer(tmp_path, config(tasks_folder, ema_decay=0.5))
    trainer.training_step()
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    assert trainer.validation is not None
    first = trainer.score(trainer.validation)
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.state_dict().items())
    assert trainer.model.training
    assert trainer.average is not None
    for average in trainer.average.state_dict().values():
        average.zero_()
    assert trainer.score(trainer.validation) != first


def test_the_same_tasks_are_held_out_whatever_the_seed(tasks_folder: Path) -> None:
    split = split_tasks(DataConfig(train="arc1:train"))
    assert (len(split.train), len(split.held_out)) == (360, 40)
    assert not {task.task_id for task in split.train} & {task.task_id for task in split.held_out}
    small = split_tasks(DataConfig(train="arc1:train", max_side=10))
    assert [task.task_id for task in small.held_out] == [task.task_id for task in split.held_out]
    assert all(max(pair.input.shape) <= 10 for task in small.train for pair in task.train + task.test)


def run_train(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.slow
def test_a_run_ends_with_scores_summary_and_the_next_command(
    tmp_path: Path, tasks_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = write_config(tmp_path, tasks_folder), tmp_path / "run"
    status, out, _ = run_train(capsys, "--config", path, "--run-dir", run, "--device", "cpu")
    assert status == 0
    assert "next: uv run eval compare" in out
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["results"]["held-out"]) == {"rlan", "identity", "background"}
    assert {"config.yaml", "metrics.jsonl", "tensorboard", "checkpoints", "summary.json"} <= {
        path.name for path in run.iterdir()
    }
    status, _, err = run_train(capsys, "--config", path, "--run-dir", run)
    assert (status, "holds a run already" in err) == (2, True)
    status, out, _ = run_train(capsys, "--resume", run)
    assert status == 0
    status, _, err = run_train(capsys, "--config", path, "--run-dir", run, "--resume", "auto", "--model.max_clues", 3)
    assert (status, "model.max_clues differ" in err) == (2, True)
    other = tmp_path / "other"
    status, _, err = run_train(
        capsys, "--config", path, "--run-dir", other, "--init-from", run, "--training.max_epochs", 1
    )
    assert status == 0, err
    assert load_checkpoint(other, "rlan").training_data == (f"dir:{tasks_folder}",)
    source = tmp_path / "train too"
    source.mkdir()
    (source / "a.json").write_text(next(tasks_folder.glob("*.json")).read_text())
    tuned = ["--data.held_out_fraction", 0, "--data.train", f"dir:{source}", "--training.max_epochs", 1]
    status, _, err = run_train(capsys, "--config", path, "--run-dir", tmp_path / "t", "--init-from", other, *tuned)
    assert status == 0, err
    assert load_checkpoint(tmp_path / "t", "rlan").training_data == (f"dir:{tasks_folder}", f"dir:{source}")
    status, _, err = run_train(
        capsys, "--config", path, "--run-dir", tmp_path / "x", "--init-from", run, "--model.hidden_dim", 32
    )
    assert (status, "does not fit this model" in err) == (2, True)


@pytest.mark.slow
def test_resume_falls_back_past_a_damaged_checkpoint_and_says_so(
    tmp_path: Path, tasks_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = write_config(tmp_path, tasks_folder, max_epochs=2), tmp_path / "run"
    assert run_train(capsys, "--config", path, "--run-dir", run)[0] == 0
    newest = list_checkpoints(run / "checkpoints")[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    status, out, _ = run_train(capsys, "--config", path, "--run-dir", run, "--resume", "auto")
    assert status == 0
    assert f"{newest.name} is damaged" in out
    assert "from step 4" in out
    assert load_checkpoint(checkpoint_path(run / "checkpoints", 6), "rlan").step == 6


def test_a_collapsed_run_is_saved_and_stops_with_status_3(
    tmp_path: Path, tasks_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collapsed = {
        "task_accuracy": 0.0, "pixel_accuracy": 0.6, "non_bg_accuracy": 0.0, "size_accuracy": 1.0, "bg_ratio_pred": 1.0,
        "bg_ratio_target": 0.6, "colors_used": 1.0, "colors_target": 3.0, "context_norm": 2.0,
    }  # fmt: skip
    monkeypatch.setattr("rlan.trainer.evaluate_model", lambda *arguments: collapsed)
    path, run = write_config(tmp_path, tasks_folder, max_epochs=100), tmp_path / "run"
    status, out, _ = run_train(capsys, "--config", path, "--run-dir", run, "--device", "cpu")
    assert status == 3
    assert "BACKGROUND COLLAPSE DETECTED! (5/5)" in out
    assert "Likely cause" in out
    assert list_checkpoints(run / "checkpoints")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "none.yaml"], "does not exist"),
        (["--training.learning_rat", "1"], "did you mean training.learning_rate?"),
        (["--data.train", "arc1:eval"], "must not hold answers of evaluation tests"),
        (["--resume", "none"], "--resume needs a checkpoint file or a run folder"),
        (["--resume", "auto", "--init-from", "x"], "give one of them"),
        (["--init-from", "none"], "no checkpoint at none"),
        (["--model.hidden_dim", "65"], "hidden_dim must be a multiple of"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("arc_core.training_command.workspace_folder", lambda: Path(__file__).parents[3])
    status, _, err = run_train(capsys, *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_print_config_shows_what_reads_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = run_train(capsys, "--print-config", "--training.learning_rate", "3e-4")
    assert status == 0
    assert "learning_rate: 0.0003" in out
    (tmp_path / "again.yaml").write_text(out)
    assert run_train(capsys, "--config", tmp_path / "again.yaml", "--print-config")[1] == out


def test_validate_config_prints_the_checklist(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run_train(capsys, "--validate-config", "--data.num_workers", "8")
    assert status == 0
    assert "data.num_workers is accepted and not needed" in out
    assert "cache_samples" in out


def test_stable_meets_every_row_of_the_validation_report_and_base_says_what_it_lacks() -> None:
    recipes = Path(__file__).parents[3] / "configs" / "rlan"
    lacking = {}
    for name in ("stable", "base"):
        config, _ = load_config(RlanConfig, "rlan", {}, recipes / f"{name}.yaml", {}, OLD_KEYS)
        lacking[name] = {check.setting for check in check_stable_recipe(config) if not check.ok}
    assert lacking["stable"] == set()
    assert lacking["base"] == {"model.use_hyperlora", "loo_training.enabled", "equivariance_training.enabled"}
