"""The command `train`, which trains RLAN."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

from arc_core.checkpoint import load_checkpoint
from arc_core.device import count_parameters
from arc_core.errors import run_command
from arc_core.files import show_path
from arc_core.grid import MAX_SIDE
from arc_core.loop import TrainingResult
from arc_core.runs import RunFolder
from arc_core.training_command import TrainedMethod, open_session, write_summary
from rlan.config import METHOD, OLD_KEYS, TRAIN_COMMAND, RlanConfig
from rlan.config_checks import check_against_guide, check_stable_recipe
from rlan.data.task_split import Split, split_tasks
from rlan.metrics import ScoredTasks, evaluate_baselines
from rlan.trainer import Trainer, out_of_memory_advice

_VALIDATE = "--validate-config"
_RLAN = TrainedMethod(
    METHOD, RlanConfig, "train", TRAIN_COMMAND, "Train RLAN on ARC tasks.", OLD_KEYS,
    {_VALIDATE: "check the config against the guide and stop"},
)  # fmt: skip
_TABLE_METRICS = ("task_accuracy", "pixel_accuracy", "non_bg_accuracy", "size_accuracy")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `train` and returns its exit status."""
    return run_command(lambda: _train(argv))


def _train(argv: Sequence[str] | None) -> int:
    session = open_session(_RLAN, argv)
    if session is None:
        return 0
    config, console = session.config, session.console
    if _VALIDATE in session.arguments.switches:
        return _show_config_checks(config, console)
    split = split_tasks(config.data)
    run = session.begin(split.fingerprint)
    trainer = Trainer(config, split, run, session.fabric)
    session.take_over(trainer)
    _announce(console, trainer)
    return session.train(
        trainer, run, out_of_memory_advice(config),
        lambda result, seconds: _conclude(console, trainer, run, split, result, seconds),
    )  # fmt: skip


def _announce(console: Console, trainer: Trainer) -> None:
    config, split = trainer.config, trainer.split
    parameters = count_parameters(trainer.model)
    fit = f" with sides up to {config.data.max_side}" if config.data.max_side < MAX_SIDE else ""
    console.print(
        f"RLAN, {parameters:,} parameters on {trainer.fabric.device}: {len(split.train)} training tasks of "
        f"{config.data.train}{fit}, {len(split.held_out)} of any size held out; {config.training.max_epochs} epochs of "
        f"{trainer.plan.steps_per_epoch} steps\nwriting to {show_path(trainer.run.path)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _conclude(
    console: Console, trainer: Trainer, run: RunFolder, split: Split, result: TrainingResult, seconds: float
) -> None:
    """Scores the best checkpoint and the baselines on all tasks, writes summary.json and prints the next commands."""
    best = load_checkpoint(run.path, METHOD)
    trainer.load(best)
    sets = {"train": split.train, "held-out": split.held_out} if split.held_out else {"train": split.train}
    results = {
        name: {"rlan": trainer.score(ScoredTasks.from_tasks(tasks, trainer.fabric.device))} | evaluate_baselines(tasks)
        for name, tasks in sets.items()
    }
    for name, rows in results.items():
        headings = [key.removesuffix("_accuracy").replace("_", "-") for key in _TABLE_METRICS]
        table = Table("", *headings, title=f"{name}: accuracy on {len(sets[name])} tasks, one attempt a test input")
        for row, metrics in rows.items():
            table.add_row(
                {"background": "constant background"}.get(row, row), *(f"{metrics[key]:.3f}" for key in _TABLE_METRICS)
            )
        console.print(table)
        for line in _compare_with_baselines(name, rows):
            console.print(line, highlight=False, soft_wrap=True)
    write_summary(run, best, result, seconds, trainer.config.training.seed, results, {})
    caveat = ", chosen on the held-out tasks, so their figures lean high" if split.held_out else ""
    console.print(
        f"scores are of the checkpoint of step {best.step}{caveat}\n"
        f"trained for {seconds:.0f} s; run in {show_path(run.path)}\n"
        f"next: uv run eval compare --limit 40      uv run tensorboard --logdir {show_path(run.path.parent)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _compare_with_baselines(name: str, rows: dict[str, dict[str, float]]) -> list[str]:
    """Returns one line for each baseline that says in which metrics it is ahead."""
    lines = []
    for baseline, label in (("identity", "the identity"), ("background", "constant background")):
        ahead = [key for key in _TABLE_METRICS if rows[baseline][key] > rows["rlan"][key]]
        if ahead:
            lines.append(f"on {name} tasks {label} is still ahead in {', '.join(ahead)}")
        else:
            lines.append(f"on {name} tasks RLAN is level with or ahead of {label} in every column")
    return lines


def _show_config_checks(config: RlanConfig, console: Console) -> int:
    tables = {
        "configuration checklist of the training guide": check_against_guide(config),
        "validation report of the stable recipe": check_stable_recipe(config),
    }
    for title, checks in tables.items():
        table = Table(Column("setting", no_wrap=True, overflow="fold"), "value", "expected", "", title=title)
        for check in checks:
            verdict = "ok" if check.ok else f"differs: {check.reason}"
            table.add_row(check.setting, str(check.value), check.expected, verdict)
        console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
