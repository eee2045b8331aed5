"""The commands `prepare-program-triples` and `train-program-conditioned-jepa`."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arc_core.checkpoint import load_checkpoint
from arc_core.device import count_parameters
from arc_core.errors import InputError, RunFailure, run_command
from arc_core.files import show_path
from arc_core.loop import TrainingResult
from arc_core.training_command import TrainedMethod, open_session, write_summary
from jepa_hrl.world_model.actions import make_action_set
from jepa_hrl.world_model.config import METHOD, OLD_KEYS, STEPS, TRAIN_COMMAND, ProgramJepaConfig
from jepa_hrl.world_model.data import ensure_triples, read_triples
from jepa_hrl.world_model.trainer import Trainer
from jepa_hrl.world_model.triples import write_triples

_PROGRAM_JEPA = TrainedMethod(
    METHOD, ProgramJepaConfig, "train-program-conditioned-jepa", TRAIN_COMMAND,
    "Train the JEPA that predicts what actions make of grids; tasks and triples are generated where missing.", OLD_KEYS,
)  # fmt: skip


def train_program_conditioned_jepa(argv: Sequence[str] | None = None) -> int:
    """Runs `train-program-conditioned-jepa` and returns its exit status."""
    return run_command(lambda: _train(argv))


def _train(argv: Sequence[str] | None) -> int:
    session = open_session(_PROGRAM_JEPA, argv)
    if session is None:
        return 0
    config, console, fabric = session.config, session.console, session.fabric
    actions = make_action_set(config.actions, config.max_actions)
    with fabric.rank_zero_first():
        path, spec = ensure_triples(config, actions, console)
    console.print(f"reading {show_path(path)} ...", highlight=False, soft_wrap=True)
    triples = read_triples(path, spec, actions, config.triples.held_out)
    run = session.begin(triples.fingerprint)
    trainer = Trainer(config, triples, actions, run, fabric)
    session.take_over(trainer)
    _announce(console, trainer)
    return session.train(
        trainer, run, _out_of_memory_advice(config), lambda ended, seconds: _report(console, trainer, ended, seconds)
    )


def _announce(console: Console, trainer: Trainer) -> None:
    """Says what is trained on what, and where the run is written."""
    training, triples = trainer.config.training, trainer.triples
    console.print(
        f"program-conditioned JEPA, {count_parameters(trainer.model):,} parameters on {trainer.fabric.device}, "
        f"{len(trainer.actions)} actions\n"
        f"{len(triples.sources):,} triples of {len(triples.grids):,} grids, {int(triples.held_out.sum()):,} held out; "
        f"{training.epochs} epochs of {trainer.steps_per_epoch} steps of {training.batch_size} grids\n"
        f"writing to {show_path(trainer.run.path)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _out_of_memory_advice(config: ProgramJepaConfig) -> RunFailure:
    """Returns the failure that says what to change when a batch does not fit."""
    remedies = (
        f"training.batch_size {config.training.batch_size // 2}", "training.mixed_precision bf16",
        f"object_encoder.hidden_dim {config.object_encoder.hidden_dim // 2}",
    )  # fmt: skip
    return RunFailure(f"the device ran out of memory; in this order: {', then '.join(remedies)}")


def _report(console: Console, trainer: Trainer, ended: TrainingResult, seconds: float) -> None:
    """Scores the best checkpoint, writes summary.json and says what to do next."""
    run = trainer.run
    best = load_checkpoint(run.path, METHOD)
    trainer.load(best)
    metrics = trainer.score()
    write_summary(run, best, ended, seconds, trainer.config.training.seed, {"held-out triples": metrics}, {})
    console.print(
        f"held-out triples: the right outcome is nearest of 64 in {metrics['val/accuracy']:.3f}, of all that the "
        f"actions make of the same grid ({metrics['val/candidates_same_grid']:.0f} on average) in "
        f"{metrics['val/accuracy_same_grid']:.3f}\n"
        f"trained for {seconds:.0f} s; run in {show_path(run.path)}\n"
        f"next: uv run --package jepa-hrl train-active-reasoner",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def prepare_program_triples(argv: Sequence[str] | None = None) -> int:
    """Runs `prepare-program-triples` and returns its exit status."""
    parser = argparse.ArgumentParser(
        "prepare-program-triples",
        description="Write what each step of synthetic tasks makes of each grid, and what other actions would make of "
        "it: input, program, output; one a line.",
        epilog="example: uv run prepare-program-triples --manifest data/pilot_curriculum/manifest.jsonl "
        "--output data/program_triples/pilot_curriculum.jsonl",
    )
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="that generate-dataset wrote")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--explored", type=int, default=3, metavar="N", help="other actions a grid (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of which others are tried (default 0)")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: one a core)")
    args = parser.parse_args(argv)
    return run_command(lambda: _prepare(args, Console(emoji=False)))


def _prepare(args: argparse.Namespace, console: Console) -> int:
    if args.explored < 0:
        raise InputError(f"--explored must be 0 or more; got {args.explored}")
    began = time.perf_counter()
    actions = make_action_set(STEPS, ProgramJepaConfig().max_actions)
    console.print(f"writing to {show_path(args.output)}", highlight=False, soft_wrap=True)
    count = write_triples(args.manifest, args.output, actions, args.explored, args.seed, args.workers, console)
    console.print(
        f"{count:,} triples in {time.perf_counter() - began:.0f} s\n"
        f"next: uv run train-program-conditioned-jepa --dataset_triples {show_path(args.output)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(train_program_conditioned_jepa())
