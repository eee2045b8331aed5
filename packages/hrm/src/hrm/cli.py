"""`train-hrm`: trains HRM, TRM or the transformer."""

import importlib.util
import os
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from arc_core.checkpoint import load_checkpoint
from arc_core.config import config_to_dict
from arc_core.device import count_parameters
from arc_core.errors import InputError, run_command
from arc_core.files import show_path
from arc_core.grid import MAX_SIDE
from arc_core.loop import TrainingResult
from arc_core.runs import RunFolder
from arc_core.training_command import TrainedMethod, open_session, write_summary
from hrm.batch_finder import measure_batch_sizes, print_table
from hrm.config import METHOD, OLD_KEYS, TRAIN_COMMAND, HrmConfig
from hrm.data.training_data import load_training_data
from hrm.metrics import score_grids
from hrm.trainer import Trainer, out_of_memory_advice

_FIND = "--find-batch-size"
_HRM = TrainedMethod(
    METHOD, HrmConfig, "train-hrm", TRAIN_COMMAND, "Train HRM, TRM or a transformer on ARC tasks.", OLD_KEYS,
    {_FIND: "show which batches fit this machine and stop"},
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `train-hrm` and returns its exit status."""
    return run_command(lambda: _train(argv))


def _train(argv: Sequence[str] | None) -> int:
    session = open_session(_HRM, argv)
    if session is None:
        return 0
    config, console, fabric = session.config, session.console, session.fabric
    if _FIND in session.arguments.switches:
        print_table(measure_batch_sizes(config, fabric), config, fabric.device, console)
        return 0
    if config.validation.wandb:
        _require_wandb()
    data = load_training_data(config.data, config.training.seed, fabric.device)
    run = session.begin(data.fingerprint)
    trainer = Trainer(config, data, run, fabric)
    session.take_over(trainer)
    if config.validation.wandb and fabric.is_global_zero:
        _open_wandb(config, run)
    _announce(console, trainer)
    return session.train(
        trainer, run, out_of_memory_advice(config), lambda ended, seconds: _conclude(console, trainer, ended, seconds)
    )


def _require_wandb() -> None:
    """Raises InputError where the config asks for Weights & Biases and it is not installed, before a run begins."""
    if importlib.util.find_spec("wandb") is None:
        raise InputError("validation.wandb needs the extra: uv sync --all-packages --extra wandb")


def _open_wandb(config: HrmConfig, run: RunFolder) -> None:
    """Mirrors TensorBoard's metrics to Weights & Biases, offline unless WANDB_MODE says otherwise."""
    import wandb

    mode = os.environ.get("WANDB_MODE", "offline")
    values = config_to_dict(config)
    wandb.init(project=METHOD, name=run.path.name, dir=run.path, mode=mode, config=values, sync_tensorboard=True)


def _announce(console: Console, trainer: Trainer) -> None:
    config, data = trainer.config, trainer.data
    parameters = count_parameters(trainer.model)
    embeddings = f", {data.identities.num_embeddings:,} puzzle embeddings" if config.model.puzzle_emb_ndim else ""
    side_limit = f" with sides up to {config.data.max_side}" if config.data.max_side < MAX_SIDE else ""
    task_limit = f" (a fixed choice of {config.data.max_tasks})" if config.data.max_tasks else ""
    origin = f" from {config.data.dataset}" if config.data.dataset else side_limit + task_limit
    console.print(
        f"{config.model.architecture}, {parameters:,} parameters{embeddings} on {trainer.fabric.device}\n"
        f"{len(data.tasks)} tasks of {data.spec}{origin} in "
        f"{data.identities.num_embeddings - 1:,} views: {len(data.train):,} examples, {len(data.held_out):,} held out; "
        f"{config.training.max_steps:,} steps of {config.training.batch_size}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if data.transductive_ids:
        console.print(
            f"TRANSDUCTIVE: the demonstrations, not the tests, of {len(data.transductive_ids)} tasks of "
            f"{data.transductive_spec} are learnt; every result will say so",
            style="yellow", soft_wrap=True,
        )  # fmt: skip
    console.print(f"writing to {show_path(trainer.run.path)}", highlight=False, soft_wrap=True)


def _conclude(console: Console, trainer: Trainer, ended: TrainingResult, seconds: float) -> None:
    """Scores the best checkpoint and the identity on held-out views, writes summary.json, prints what to run next."""
    run, config = trainer.run, trainer.config
    best = load_checkpoint(run.path, METHOD)
    results: dict[str, dict[str, float]] = {}
    if trainer.validation is not None:
        trainer.load(best)
        held_out = trainer.validation
        results = {
            config.model.architecture: trainer.score(held_out),
            "identity": score_grids(held_out.inputs, held_out.targets),
        }
        names = [name.removesuffix("_accuracy") for name in results["identity"]]
        table = Table("", *names, title=f"{len(held_out.targets)} held-out views")
        for row, metrics in results.items():
            table.add_row(row, *(f"{value:.3f}" for value in metrics.values()))
        console.print(table)
        console.print("token: cells of the answer that are right; exact: whole answers, size included")
    architecture, transductive = config.model.architecture, len(trainer.transductive_ids)
    extra = {"architecture": architecture, "transductive_tasks": transductive}
    write_summary(run, best, ended, seconds, config.training.seed, {"held-out views": results}, extra)
    console.print(
        f"trained for {seconds:.0f} s; run in {show_path(run.path)}\n"
        f"next: uv run eval compare --limit 40      uv run tensorboard --logdir {show_path(run.path.parent)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
