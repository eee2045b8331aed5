import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from arc_core import checkpoint as checkpoint_module
from arc_core.checkpoint import (
    Checkpoint,
    CheckpointError,
    checkpoint_path,
    latest_valid_checkpoint,
    list_checkpoints,
    load_checkpoint,
    resolve_checkpoint,
    save_checkpoint,
)
from arc_core.errors import InputError, RunFailure, run_command
from arc_core.files import write_atomically, write_text
from arc_core.runs import MetricLog, RunFolder, new_run, newest_run, read_metrics


def make(step: int = 1) -> Checkpoint:
    weights = {"w": torch.full((3,), float(step))}
    return Checkpoint(
        "m", step, weights, {"state": {}}, {"last": 1}, {"a": {"b": 2}}, "f00", ("arc1:train",), best_metric=(0.5, 0.1)
    )


def test_a_checkpoint_reads_back_whole(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, make(7), is_best=True, keep_last=2)
    assert path == checkpoint_path(tmp_path, 7)
    again = load_checkpoint(path, "m")
    assert torch.equal(again.model["w"], make(7).model["w"])
    assert (again.step, again.config, again.best_metric) == (7, {"a": {"b": 2}}, (0.5, 0.1))


def test_retention_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in range(1, 7):
        save_checkpoint(tmp_path, make(step), is_best=step == 2, keep_last=2)
    assert [path.name[5:13] for path in list_checkpoints(tmp_path)] == ["00000006", "00000005", "00000002"]
    assert resolve_checkpoint(tmp_path).name == "step_00000002.pt"
    assert resolve_checkpoint(tmp_path / "last.json").name == "step_00000006.pt"


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "pickle", "one bit"])
def test_a_damaged_checkpoint_is_refused_and_auto_falls_back(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, make(1), is_best=False, keep_last=5)
    path = save_checkpoint(tmp_path, make(2), is_best=False, keep_last=5)
    content = path.read_bytes()
    if damage == "pickle":
        torch.save({"format_version": 1, "method": "m", "model": Path("/")}, path)  # an object, not data
    elif damage == "one bit":
        flipped = bytearray(content)
        flipped[content.index(make(2).model["w"].numpy().tobytes())] ^= 1  # type: ignore[union-attr]
        path.write_bytes(flipped)
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        load_checkpoint(path, "m")
    found = latest_valid_checkpoint(tmp_path, "m")
    assert found is not None
    assert found[0].step == 1
    assert "step_00000002.pt" in found[1][0]


def test_foreign_and_wrong_method_checkpoints_are_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, make(), is_best=False, keep_last=1)
    with pytest.raises(CheckpointError, match="must be of method hrm; it is of m"):
        load_checkpoint(path, "hrm")
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="was not written by this project"):
        load_checkpoint(path, "m")
    save_checkpoint(tmp_path, replace(make(3), format_version=99), is_best=False, keep_last=5)
    with pytest.raises(CheckpointError, match="has format 99; this version reads 2"):
        load_checkpoint(checkpoint_path(tmp_path, 3), "m")
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        latest_valid_checkpoint(tmp_path, "m")
    assert latest_valid_checkpoint(tmp_path / "empty", "m") is None
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "absent", "m")


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, make(1), is_best=True, keep_last=1)

    def full(state: object, file: IO[bytes]) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint_module.torch, "save", full)
    with pytest.raises(RunFailure, match="the disk is full"):
        save_checkpoint(tmp_path, make(2), is_best=True, keep_last=1)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path, "m").step == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.json", "last.json", "step_00000001.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_torch_reports_a_device_without_space_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def to_full_device(state: object, file: IO[bytes]) -> None:
        with Path("/dev/full").open("wb") as full:
            save(state, full)
            full.flush()

    monkeypatch.setattr(checkpoint_module.torch, "save", to_full_device)
    with pytest.raises(RunFailure, match="disk is full"):
        save_checkpoint(tmp_path, make(2), is_best=True, keep_last=1)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_text(path, "old")

    def interrupted(file: IO[bytes]) -> None:
        file.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_one_call_writes_both_logs_and_resuming_cuts_the_lost_stretch(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with MetricLog(run, 0) as log:
        for step in (1, 2, 3):
            log.log(step, {"train/loss": step / 10, "train/odd": float("nan")})
    with run.metrics.open("a") as file:
        file.write('{"step": 4, "train/lo')  # killed here
    with MetricLog(run, 2) as log:
        log.log(3, {"train/loss": 0.9})
    assert read_metrics(run.metrics) == [
        {"step": 1, "train/loss": 0.1}, {"step": 2, "train/loss": 0.2}, {"step": 3, "train/loss": 0.9},
    ]  # fmt: skip
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(event.step, round(event.value, 3)) for event in board.Scalars("train/loss")] == [
        (1, 0.1), (2, 0.2), (3, 0.9),
    ]  # fmt: skip


def test_a_folder_with_a_run_is_not_written_over(tmp_path: Path) -> None:
    run = new_run(tmp_path, "m", "quick", None)
    assert run.path.parent == tmp_path / "m"
    assert new_run(tmp_path, "m", "quick", None).path != run.path
    save_checkpoint(run.checkpoints, make(), is_best=False, keep_last=1)
    with pytest.raises(InputError, match="holds a run already"):
        new_run(tmp_path, "m", "quick", run.path)


def test_the_newest_run_is_the_one_saved_last(tmp_path: Path) -> None:
    assert newest_run(tmp_path, "m") is None
    for name, time in (("quick-1", 100), ("quick-2", 50), ("base-1", 200)):
        path = save_checkpoint(tmp_path / "m" / name / "checkpoints", make(), is_best=False, keep_last=1)
        os.utime(path, (time, time))
    (tmp_path / "m" / "quick-3" / "checkpoints").mkdir(parents=True)
    newest, quick = newest_run(tmp_path, "m"), newest_run(tmp_path, "m", "quick")
    assert newest is not None
    assert quick is not None
    assert (newest.path.name, quick.path.name) == ("base-1", "quick-1")


def test_commands_report_errors_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def bad() -> int:
        raise InputError("x must be y; got z")

    def failed() -> int:
        raise RunFailure("went wrong", 3)

    def interrupted() -> int:
        raise KeyboardInterrupt

    def terminated() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    assert [run_command(command) for command in (bad, failed, interrupted, terminated)] == [2, 3, 130, 143]
    assert capsys.readouterr().err == "error: x must be y; got z\nstopped: went wrong\ninterrupted\nterminated\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_pointers_hold_names_not_copies(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make(4), is_best=True, keep_last=1)
    assert json.loads((tmp_path / "best.json").read_text()) == {"file": "step_00000004.pt", "step": 4}
