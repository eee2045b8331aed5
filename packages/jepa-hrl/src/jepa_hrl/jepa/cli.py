"""`train-jepa`: trains the object-centric JEPA."""

from collections.abc import Sequence

from rich.console import Console

from arc_core.checkpoint import load_checkpoint
from arc_core.errors import run_command
from arc_core.files import show_path
from arc_core.loop import Ended
from arc_core.training_command import TrainedMethod, open_session, write_summary
from jepa_hrl.jepa.config import METHOD, OLD_KEYS, TRAIN_COMMAND, JepaConfig
from jepa_hrl.jepa.data import load_data
from jepa_hrl.jepa.trainer import Trainer, out_of_memory_advice

_JEPA = TrainedMethod(
    METHOD, JepaConfig, "train-jepa", TRAIN_COMMAND,
    "Train the object-centric JEPA on synthetic tasks, which are generated where they are missing.", OLD_KEYS,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command `train-jepa`."""
    return run_command(lambda: _train(argv))


def _train(argv: Sequence[str] | None) -> int:
    session = open_session(_JEPA, argv)
    if session is None:
        return 0
    config, console, fabric = session.config, session.console, session.fabric
    with fabric.rank_zero_first():
        data = load_data(config, console)
    run = session.begin(data.table.fingerprint)
    trainer = Trainer(config, data, run, fabric)
    session.take_over(trainer)
    _announce(console, trainer)
    return session.train(
        trainer, run, out_of_memory_advice(config), lambda ended, seconds: _conclude(console, trainer, ended, seconds)
    )


def _announce(console: Console, trainer: Trainer) -> None:
    config, data = trainer.config, trainer.data
    parameters = sum(p.numel() for p in trainer.model.parameters())
    table = data.table
    console.print(
        f"object-centric JEPA, {parameters:,} parameters on {trainer.fabric.device}\n"
        f"{len(table):,} tasks of {data.spec} with {len(table.objects):,} objects: {len(data.learnt):,} learnt, "
        f"{len(data.held_out):,} held out; {config.training.epochs} epochs of {trainer.steps_per_epoch} steps of "
        f"{config.training.batch_size}\nwriting to {show_path(trainer.run.path)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _conclude(console: Console, trainer: Trainer, ended: Ended, seconds: float) -> None:
    """Scores the best checkpoint, writes summary.json, says what comes next."""
    run, config = trainer.run, trainer.config
    best = load_checkpoint(run.path, METHOD, trainer.fabric.device)
    trainer.load(best)
    found = trainer.score()
    quantizer = trainer.model.encoder.quantizer
    if quantizer is not None:
        found["diagnostics/vq/usage_ratio"] = float(quantizer.usage)
    write_summary(run, best, ended, seconds, config.training.seed, {"held-out tasks": found}, {})
    if found:
        console.print(
            f"held-out tasks: loss {found['val/loss']:.3f}, the right output is nearest in {found['val/right']:.3f}, "
            f"isotropy {found['diagnostics/context/isotropy']:.2f}"
            + (f", codes used {found['diagnostics/vq/usage_ratio']:.2f}" if quantizer is not None else ""),
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    console.print(
        f"trained for {seconds:.0f} s; run in {show_path(run.path)}\n"
        f"next: uv run validate-jepa-correlation --checkpoints {show_path(run.path)}      "
        f"uv run tensorboard --logdir {show_path(run.path.parent)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
