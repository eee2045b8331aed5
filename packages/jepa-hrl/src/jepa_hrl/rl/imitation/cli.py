"""`pretrain-bc`: clones a first policy from the programs of synthetic tasks, before reinforcement learning."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arc_core.checkpoint import CheckpointError, load_checkpoint
from arc_core.config import build_config
from arc_core.errors import InputError, RunFailure, run_command
from arc_core.files import show_path
from arc_core.loop import TrainingResult
from arc_core.progress import Progress
from arc_core.runs import RunFolder
from arc_core.training_command import TrainedMethod, open_session, write_summary
from jepa_hrl.rl.config import CLONING_COMMAND, CLONING_METHOD, OLD_KEYS, ReasonerConfig
from jepa_hrl.rl.environment.datasets import load_problem_sets
from jepa_hrl.rl.imitation.demonstrations import collect_demonstrations
from jepa_hrl.rl.imitation.trainer import CloningTrainer
from jepa_hrl.rl.policy.agent import Agent, uses_same_world_model
from jepa_hrl.rl.prerequisites import ensure_program_jepa, ensure_run
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa, load_program_jepa

_CLONING = TrainedMethod(
    CLONING_METHOD, ReasonerConfig, "pretrain-bc", CLONING_COMMAND,
    "Clone a first policy from the programs of synthetic tasks, for train-active-reasoner to begin with.", OLD_KEYS,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `pretrain-bc`; returns its exit status."""
    return run_command(lambda: _train(argv))


def ensure_cloned_policy(config: ReasonerConfig, jepa: LoadedProgramJepa, console: Console) -> Path:
    """Returns the cloned policy that a reasoner starts from, and trains one if there is none.

    Args:
        config: recipe of the reasoner. The policy must have its size and its choices.
        jepa: world model that the policy must have been trained with.
        console: told which run is used, or that one is trained.
    Returns:
        Run or checkpoint of pretrain-bc.
    Raises:
        RunFailure: the training was stopped.
    """

    def fits(run: RunFolder) -> bool:
        try:
            checkpoint = load_checkpoint(run.path, CLONING_METHOD)
        except CheckpointError:
            return False
        theirs, _ = build_config(ReasonerConfig, checkpoint.config, str(run.path))
        return uses_same_world_model(checkpoint, jepa) and _common_settings(theirs) == _common_settings(config)

    arguments = [f"--{key}={str(value).lower()}" for key, value in _common_settings(config).items()]
    if not config.env.undo:
        arguments.append("--cloning.strays=0")
    arguments.append(f"--program_checkpoint={jepa.file}")
    return ensure_run(
        config.policy_checkpoint, CLONING_METHOD, CLONING_COMMAND, main, "cloned policy", console, arguments, fits
    )


def _common_settings(config: ReasonerConfig) -> dict[str, object]:
    """Returns the settings, by key, that a policy shares with the one that it starts from."""
    policy = config.policy
    return {
        "env.undo": config.env.undo, "policy.hidden_dim": policy.hidden_dim, "policy.foresight": policy.foresight,
    }  # fmt: skip


def _train(argv: Sequence[str] | None) -> int:
    session = open_session(_CLONING, argv)
    if session is None:
        return 0
    config, console, fabric = session.config, session.console, session.fabric
    if not config.cloning.epochs:
        raise InputError("cloning.epochs must be 1 or more to clone a policy; got 0")
    with fabric.rank_zero_first():
        jepa = load_program_jepa(ensure_program_jepa(config.program_checkpoint, console), fabric.device)
        sets = load_problem_sets(config.tasks, config.env, jepa.actions, config.trainer.seed, console)
    run = session.begin(sets.fingerprint)
    agent = Agent(jepa, config.policy, config.trainer.seed, undo=config.env.undo)
    traced = sum(bool(problem.trace) for problem in sets.train)
    with Progress(console, traced, "programs to imitate") as progress:
        demonstrations = collect_demonstrations(
            sets.train, agent.lookahead, agent.cache, config.env, -1, progress, config.cloning.strays,
            config.trainer.seed,
        )  # fmt: skip
    trainer = CloningTrainer(config, agent, sets, demonstrations, run, fabric)
    session.take_over(trainer)
    console.print(
        f"behavioural cloning of {traced:,} programs, {len(demonstrations):,} steps; {config.cloning.epochs} epochs of "
        f"{trainer.steps_per_epoch} steps of {config.cloning.batch_size}\nwriting to {show_path(run.path)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return session.train(
        trainer, run, _out_of_memory(config), lambda ended, seconds: _conclude(console, trainer, ended, seconds)
    )


def _out_of_memory(config: ReasonerConfig) -> RunFailure:
    return RunFailure(
        f"the device ran out of memory; try cloning.batch_size {config.cloning.batch_size // 2}, then tasks.practice "
        f"{config.tasks.practice // 2}"
    )


def _conclude(console: Console, trainer: CloningTrainer, ended: TrainingResult, seconds: float) -> None:
    """Evaluates the best checkpoint, writes summary.json and prints the next command."""
    run = trainer.run
    best = load_checkpoint(run.path, CLONING_METHOD)
    trainer.load(best)
    metrics = trainer.evaluate()
    results = {"held-out tasks": metrics.metrics("eval")}
    write_summary(run, best, ended, seconds, trainer.config.trainer.seed, results, {})
    console.print(
        f"held-out tasks: grounded success {metrics.success:.3f}, mean length {metrics.length:.2f}\n"
        f"trained for {seconds:.0f} s; run in {show_path(run.path)}\n"
        f"next: uv run --package jepa-hrl train-active-reasoner --policy_checkpoint {show_path(run.path)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
