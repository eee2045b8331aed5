"""A policy with options and one without: shown the same programs, then trained on the same seeds and tasks."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric
from rich.console import Console

from arc_core.checkpoint import latest_valid_checkpoint, load_checkpoint
from arc_core.config import config_to_dict, config_to_yaml
from arc_core.errors import RunFailure
from arc_core.files import write_json, write_text
from arc_core.loop import TrainingResult, close_fabric, open_fabric
from arc_core.progress import Progress
from arc_core.runs import RunFolder
from arc_core.training_command import check_resumable, train_to_end
from jepa_hrl.rl.config import CLONING_METHOD, METHOD, ReasonerConfig
from jepa_hrl.rl.environment.datasets import ProblemSets
from jepa_hrl.rl.imitation.cli import ensure_cloned_policy
from jepa_hrl.rl.imitation.demonstrations import collect_demonstrations
from jepa_hrl.rl.imitation.trainer import CloningTrainer
from jepa_hrl.rl.options.comparison import summarize_decisions
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.evaluation import EpisodeOutcomes, evaluate_greedy
from jepa_hrl.rl.ppo.trainer import Trainer
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

VARIANTS = ("primitives", "options")


@dataclass(frozen=True)
class SharedInputs:
    """What all trainings share."""

    config: ReasonerConfig
    jepa: LoadedProgramJepa
    sets: ProblemSets
    options: tuple[tuple[int, ...], ...]

    def agent(self, variant: str, seed: int) -> Agent:
        """An untrained policy of a variant."""
        options = self.options if variant == "options" else ()
        return Agent(self.jepa, self.config.policy, seed, options, self.config.env.undo)


def fine_tune_by_imitation(shared: SharedInputs, variant: str, folder: Path, console: Console) -> int:
    """Shows the cloned policy the programs of the tasks, with options wherever one begins what is left to do.

    Without this a policy that is sure of its actions would never try an option. The variant without options is shown
    the same programs as long, so that both have learnt as much.

    Returns:
        The exit status; 0 if it is done, or was.
    """
    config, run = shared.config, RunFolder(folder)
    if run.summary.exists():
        return 0
    cloned = ensure_cloned_policy(config, shared.jepa, console)
    fabric = open_fabric(config.device.name, "float32")
    agent, known = shared.agent(variant, config.trainer.seed), shared.sets.train
    with Progress(console, sum(bool(problem.trace) for problem in known), f"programs shown, {variant}") as progress:
        shown = collect_demonstrations(
            known, agent.lookahead, agent.cache, config.env, -1, progress, config.cloning.strays, config.trainer.seed,
            agent.options,
        )  # fmt: skip
    trainer = CloningTrainer(config, agent, shared.sets, shown, run, fabric)

    def begin() -> None:
        trainer.init_from(load_checkpoint(cloned, CLONING_METHOD, fabric.device))

    ended = _train_or_resume(trainer, CLONING_METHOD, begin, run, fabric, f"shown, {variant}", console)
    if not ended.status and fabric.is_global_zero:
        first = len(shared.jepa.actions)
        options = (shown.actions >= first) & (shown.actions < first + len(agent.options))
        values = {"steps": len(shown), "share_options": float(options.float().mean())}
        write_json(run.summary, {"method": CLONING_METHOD, "variant": variant, "results": values})
    close_fabric(fabric)
    return ended.status


def train_arm(
    shared: SharedInputs, variant: str, seed: int, begin_with: Path | None, folder: Path, console: Console
) -> tuple[int, EpisodeOutcomes | None]:
    """Trains one policy, or goes on, or takes the one that is there; the exit status, and its tries of held-out tasks.

    Args:
        begin_with: run of `taught`; None to begin from scratch.
    """
    config = dataclasses.replace(shared.config, trainer=dataclasses.replace(shared.config.trainer, seed=seed))
    run = RunFolder(folder)
    fabric = open_fabric(config.device.name, "float32")
    agent = shared.agent(variant, seed)
    trainer = Trainer(config, agent, shared.sets, run, fabric)

    def begin() -> None:
        if begin_with is not None:
            trainer.init_from(load_checkpoint(begin_with, CLONING_METHOD, fabric.device))

    ended = _train_or_resume(trainer, METHOD, begin, run, fabric, f"{variant}, seed {seed}", console)
    if ended.status:
        return ended.status, None
    trainer.load(load_checkpoint(run.path, METHOD, fabric.device))
    tried = evaluate_greedy(agent, shared.sets.held_out, config.env)
    if fabric.is_global_zero:
        write_json(
            run.summary, {"method": METHOD, "variant": variant, "seed": seed, "results": summarize_decisions(tried)}
        )
    close_fabric(fabric)
    return 0, tried


def _train_or_resume(
    trainer: Trainer | CloningTrainer, method: str, begin: Callable[[], None], run: RunFolder, fabric: Fabric,
    name: str, console: Console,
) -> TrainingResult:  # fmt: skip
    """Begins or goes on where a checkpoint is, up to the end or a signal."""
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    found = latest_valid_checkpoint(run.checkpoints, method)
    if found is not None:
        check_resumable(found[0], config_to_dict(trainer.config), trainer.sets.fingerprint)
        trainer.load(found[0])
    else:
        write_text(run.config, config_to_yaml(trainer.config, method))
        begin()
    if trainer.step >= trainer.total_steps:
        return TrainingResult(trainer.step, 0)
    progress = Progress(console, trainer.total_steps, name, trainer.step)
    failure = RunFailure("the device ran out of memory; try a smaller trainer.episodes_per_iter or cloning.batch_size")
    ended = train_to_end(trainer.train, progress, fabric, run, failure)
    if ended.status:
        console.print(ended.message, soft_wrap=True)
    return ended
