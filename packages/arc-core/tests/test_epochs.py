"""What trainers that count epochs share: the record of losses, the rate, and the names of checkpoints."""

from pathlib import Path

import pytest

from arc_core.checkpoint import checkpoint_path
from arc_core.epochs import EpochRecord, EpochTrainer, link_epoch
from arc_core.progress import Progress
from arc_core.runs import MetricLog, RunFolder


class Counting(EpochTrainer):
    """Steps that cost nothing; only the schedule is used."""

    unit, loss_metric, accuracy_metric = "steps", "loss", "accuracy"

    def __init__(self, total_steps: int) -> None:
        self.step, self.total_steps, self.steps_per_epoch = 0, total_steps, total_steps

    def training_step(self) -> dict[str, float]:
        self.step += 1
        return {"loss": 0.0, "accuracy": 0.0}

    def end_epoch(self, log: MetricLog | None, progress: Progress) -> None:
        pass

    def save(self, is_best: bool) -> None:
        pass


def rates(total_steps: int, warmup_steps: int) -> list[float]:
    """The rate of every step of a run."""
    trainer, found = Counting(total_steps), []
    for _ in range(total_steps):
        found.append(trainer.learning_rate_factor(warmup_steps))
        trainer.training_step()
    return found


def test_the_rate_rises_falls_to_a_tenth_and_reaches_its_height_in_short_runs() -> None:
    run = rates(100, 10)
    assert run[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(run) == 1 and run[10:] == sorted(run[10:], reverse=True)
    assert run[-1] == pytest.approx(0.1, abs=1e-3)
    assert max(rates(20, 1000)) == 1


def test_stale_epochs_are_those_not_better_by_min_delta() -> None:
    record = EpochRecord()
    assert [record.end_epoch(loss, 0.1) for loss in (3.0, 2.95, 2.5)] == [True, True, True]
    assert record.stale == 0
    assert [record.end_epoch(loss, 0.1) for loss in (2.45, 2.6)] == [True, False]
    assert record.stale == 2 and record.best == 2.45
    again = EpochRecord()
    again.load_state_dict(record.state_dict())
    assert again.state_dict() == record.state_dict()


def test_epochs_of_dropped_checkpoints_lose_their_second_name(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    for epoch in range(1, 5):
        checkpoint_path(run.checkpoints, 10 * epoch).write_bytes(bytes([epoch]))
        if epoch > 2:
            checkpoint_path(run.checkpoints, 10 * (epoch - 2)).unlink()
        link_epoch(run, 10 * epoch, epoch)
    assert sorted(path.name for path in run.checkpoints.glob("checkpoint_epoch_*")) == [
        "checkpoint_epoch_0003.pt", "checkpoint_epoch_0004.pt",
    ]  # fmt: skip
    assert (run.checkpoints / "checkpoint_epoch_0004.pt").read_bytes() == bytes([4])
    link_epoch(run, 50, 5)  # nothing was saved
    assert not (run.checkpoints / "checkpoint_epoch_0005.pt").exists()
