"""`train-active-reasoner`: trains the policy that reasons in latents, and the runs it requires that are missing."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arc_core.checkpoint import load_checkpoint
from arc_core.errors import RunFailure, run_command
from arc_core.files import show_path
from arc_core.loop import TrainingResult
from arc_core.training_command import TrainedMethod, open_session, write_summary
from jepa_hrl.rl.config import CLONING_METHOD, METHOD, OLD_KEYS, TRAIN_COMMAND, ReasonerConfig
from jepa_hrl.rl.environment.datasets import load_problem_sets, practice_seed
from jepa_hrl.rl.imitation.cli import ensure_cloned_policy
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.learning_curves import write_curve
from jepa_hrl.rl.ppo.trainer import Trainer
from jepa_hrl.rl.prerequisites import ensure_program_jepa
from jepa_hrl.world_model.checkpoint import load_program_jepa

_REASONER = TrainedMethod(
    METHOD, ReasonerConfig, "train-active-reasoner", TRAIN_COMMAND,
    "Train the active reasoner. Tasks, triples, the program-conditioned JEPA and the cloned policy that it needs are "
    "made with their quick recipes where they are missing.", OLD_KEYS,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `train-active-reasoner`; returns its exit status."""
    return run_command(lambda: _train(argv))


def _train(argv: Sequence[str] | None) -> int:
    session = open_session(_REASONER, argv)
    if session is None:
        return 0
    config, console, fabric = session.config, session.console, session.fabric
    with fabric.rank_zero_first():
        path = ensure_program_jepa(config.program_checkpoint, console)
        jepa = load_program_jepa(path, fabric.device)
        if session.start.checkpoint is None and session.initial is None and config.cloning.epochs:
            cloned_run = ensure_cloned_policy(config, jepa, console)
            session.initial = load_checkpoint(cloned_run, CLONING_METHOD)
        sets = load_problem_sets(config.tasks, config.env, jepa.actions, practice_seed(config), console)
    run = session.begin(sets.fingerprint)
    trainer = Trainer(config, Agent(jepa, config.policy, config.trainer.seed, undo=config.env.undo), sets, run, fabric)
    session.take_over(trainer)
    _announce(console, trainer, path)
    return session.train(
        trainer, run, _out_of_memory(config), lambda ended, seconds: _conclude(console, trainer, ended, seconds)
    )


def _announce(console: Console, trainer: Trainer, jepa: Path) -> None:
    config, sets = trainer.config, trainer.sets
    parameters = sum(p.numel() for p in trainer.agent.policy.parameters())
    console.print(
        f"active reasoner, {parameters:,} parameters on {trainer.fabric.device}, "
        f"{len(trainer.agent.jepa.actions)} actions{', undo' * config.env.undo} and stop, "
        f"dynamics: {config.env.dynamics}, latents of {show_path(jepa)}\n"
        f"{len(sets.train):,} tasks to learn from, {len(sets.held_out):,} held out; {config.trainer.iterations} "
        f"iterations of {config.trainer.episodes_per_iter} x {config.trainer.steps_per_iter} steps\n"
        f"writing to {show_path(trainer.run.path)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _out_of_memory(config: ReasonerConfig) -> RunFailure:
    return RunFailure(
        f"the device ran out of memory; try trainer.episodes_per_iter {config.trainer.episodes_per_iter // 2}, then "
        f"trainer.minibatches {2 * config.trainer.minibatches}"
    )


def _conclude(console: Console, trainer: Trainer, ended: TrainingResult, seconds: float) -> None:
    """Evaluates the best checkpoint, writes summary.json and the curve, and prints the next commands."""
    run = trainer.run
    best = load_checkpoint(run.path, METHOD)
    curve = trainer.curve
    trainer.load(best)
    metrics = trainer.evaluate()
    write_curve(run.path / "curve.png", [curve])
    results = {"held-out tasks": metrics.metrics("eval")}
    details = {"dynamics": trainer.config.env.dynamics, "curve": [list(point) for point in curve]}
    write_summary(run, best, ended, seconds, trainer.config.trainer.seed, results, details)
    lengths = ", ".join(f"{success:.2f} of {length} steps" for length, success in metrics.by_length.items())
    console.print(
        f"held-out tasks: grounded success {metrics.success:.3f} ({lengths}), latent only {metrics.latent_only:.3f}, "
        f"mean length {metrics.length:.2f}, {metrics.length_ratio:.2f} times the generator's\n"
        f"trained for {seconds:.0f} s; run in {show_path(run.path)}; curve in {show_path(run.path / 'curve.png')}\n"
        f"next: uv run eval compare --methods dsl active-reasoner --data arc1:train --limit 40      "
        f"uv run rollout-latent-env --checkpoint {show_path(run.path)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
