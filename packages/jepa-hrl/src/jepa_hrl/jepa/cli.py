"""`train-jepa`: trains the object-centric JEPA."""

from collections.abc import Sequence

from rich.console import Console

from arc_core.checkpoint import load_checkpoint
from arc_core.config import config_to_dict, config_to_yaml
from arc_core.errors import run_command
from arc_core.files import show_path
from arc_core.loop import Ended, open_fabric
from arc_core.solver import training_commands
from arc_core.training_command import (
    announce_start,
    begin_run,
    check_resumable,
    first_process_console,
    parse_trainer_arguments,
    read_recipe,
    run_trainer,
    take_over,
    write_summary,
)
from jepa_hrl.jepa.config import METHOD, OLD_KEYS, TRAIN_COMMAND, JepaConfig
from jepa_hrl.jepa.data import load_data
from jepa_hrl.jepa.trainer import Trainer, out_of_memory_advice


def main(argv: Sequence[str] | None = None) -> int:
    """The command `train-jepa`."""
    return run_command(lambda: _train(argv))


def _train(argv: Sequence[str] | None) -> int:
    console = first_process_console()
    description = "Train the object-centric JEPA on synthetic tasks, which are generated where they are missing."
    arguments = parse_trainer_arguments("train-jepa", METHOD, description, {}, argv)
    commands = training_commands() | {METHOD: TRAIN_COMMAND}
    recipe = read_recipe(JepaConfig, arguments, METHOD, commands, OLD_KEYS, console)
    if recipe is None:
        return 0
    config, start = announce_start(JepaConfig, recipe, arguments, METHOD, console)
    initial = load_checkpoint(arguments.init_from, METHOD) if arguments.init_from else None
    fabric = open_fabric(config.device.name, config.training.precision)
    with fabric.rank_zero_first():
        data = load_data(config, console)
    if start.checkpoint is not None:
        check_resumable(start.checkpoint, config_to_dict(config), data.table.fingerprint)
    run = begin_run(arguments, start, METHOD, config_to_yaml(config, METHOD), fabric)
    trainer = Trainer(config, data, run, fabric)
    take_over(trainer, start, initial)
    _announce(console, trainer)
    return run_trainer(
        trainer, trainer.total_steps, run, fabric, out_of_memory_advice(config), TRAIN_COMMAND, console,
        lambda ended, seconds: _conclude(console, trainer, ended, seconds),
    )  # fmt: skip


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
