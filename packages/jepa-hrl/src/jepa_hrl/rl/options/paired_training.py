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
from jepa_hrl.rl.environment.datasets import PuzzleSets
from jepa_hrl.rl.imitation.cli import cloned_policy
from jepa_hrl.rl.imitation.demonstrations import demonstrate
from jepa_hrl.rl.imitation.trainer import CloningTrainer
from jepa_hrl.rl.options.comparison import figures
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.evaluation import Tried, try_all
from jepa_hrl.rl.ppo.trainer import Trainer
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

VARIANTS = ("primitives", "options")


@dataclass(frozen=True)
class Pieces:
    """What all trainings share."""

    config: ReasonerConfig
    jepa: LoadedProgramJepa
    sets: PuzzleSets
    options: tuple[tuple[int, ...], ...]

    def agent(self, variant: str, seed: int) -> Agent:
        """An untrained policy of a variant."""
        options = self.options if variant == "options" else ()
        return Agent(self.jepa, self.config.policy, seed, options, self.config.env.undo)


def taught(pieces: Pieces, variant: str, folder: Path, console: Console) -> int:
    """Shows the cloned policy the programs of the tasks, with options wherever one begins what is left to do.

    Without this a policy that is sure of its actions would never try an option. The variant without options is shown
    the same programs as long, so that both have learnt as much.

    Returns:
        The exit status; 0 if it is done, or was.
    """
    config, run = pieces.config, RunFolder(folder)
    if run.summary.exists():
        return 0
    cloned = cloned_policy(config, pieces.jepa, console)
    fabric = open_fabric(config.device.name, "float32")
    agent, known = pieces.agent(variant, config.trainer.seed), pieces.sets.learnt
    with Progress(console, sum(bool(puzzle.trace) for puzzle in known), f"programs shown, {variant}") as progress:
        shown = demonstrate(
            known, agent.foresight, agent.world, config.env, -1, progress, config.cloning.strays, config.trainer.seed,
            agent.options,
        )  # fmt: skip
    trainer = CloningTrainer(config, agent, pieces.sets, shown, run, fabric)

    def begin() -> None:
        trainer.init_from(load_checkpoint(cloned, CLONING_METHOD, fabric.device))

    ended = _to_end(trainer, CLONING_METHOD, begin, run, fabric, f"shown, {variant}", console)
    if not ended.status and fabric.is_global_zero:
        first = len(pieces.jepa.actions)
        options = (shown.actions >= first) & (shown.actions < first + len(agent.options))
        values = {"steps": len(shown), "share_options": float(options.float().mean())}
        write_json(run.summary, {"method": CLONING_METHOD, "variant": variant, "results": values})
    close_fabric(fabric)
    return ended.status


def trained(
    pieces: Pieces, variant: str, seed: int, begin_with: Path | None, folder: Path, console: Console
) -> tuple[int, Tried | None]:
    """Trains one policy, or goes on, or takes the one that is there; the exit status, and its tries of held-out tasks.

    Args:
        begin_with: run of `taught`; None to begin from scratch.
    """
    config = dataclasses.replace(pieces.config, trainer=dataclasses.replace(pieces.config.trainer, seed=seed))
    run = RunFolder(folder)
    fabric = open_fabric(config.device.name, "float32")
    agent = pieces.agent(variant, seed)
    trainer = Trainer(config, agent, pieces.sets, run, fabric)

    def begin() -> None:
        if begin_with is not None:
            trainer.init_from(load_checkpoint(begin_with, CLONING_METHOD, fabric.device))

    ended = _to_end(trainer, METHOD, begin, run, fabric, f"{variant}, seed {seed}", console)
    if ended.status:
        return ended.status, None
    trainer.load(load_checkpoint(run.path, METHOD, fabric.device))
    tried = try_all(agent, pieces.sets.held_out, config.env)
    if fabric.is_global_zero:
        write_json(run.summary, {"method": METHOD, "variant": variant, "seed": seed, "results": figures(tried)})
    close_fabric(fabric)
    return 0, tried


def _to_end(
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
