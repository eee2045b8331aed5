"""Trains a policy with options and one without in the same way: same demonstrations, seeds and tasks."""

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
    """What the trainings of both variants share.

    Attributes:
        config: recipe; its seed is that of the imitation.
        jepa: world model.
        sets: problems to train on, and held-out ones.
        options: sequences of action indices, of the variant "options".
    """

    config: ReasonerConfig
    jepa: LoadedProgramJepa
    sets: ProblemSets
    options: tuple[tuple[int, ...], ...]

    def make_agent(self, variant: str, seed: int) -> Agent:
        """Makes an agent of a variant, with an untrained policy."""
        options = self.options if variant == "options" else ()
        return Agent(self.jepa, self.config.policy, seed, options, self.config.env.undo)


def fine_tune_by_imitation(shared: SharedInputs, variant: str, folder: Path, console: Console) -> int:
    """Fine-tunes the cloned policy by imitation, with options in place of actions wherever one fits.

    Without this step a policy that is sure of its actions would never try an option. The variant without options
    imitates the same programs for as long, so that both have learnt as much.

    Args:
        shared: inputs of both variants.
        variant: one of VARIANTS.
        folder: run to write; a finished one is left as it is, an unfinished one is resumed.
        console: for progress.
    Returns:
        The exit status, 0 if the run is finished.
    """
    config, run = shared.config, RunFolder(folder)
    if run.summary.exists():
        return 0
    cloned_run = ensure_cloned_policy(config, shared.jepa, console)
    fabric = open_fabric(config.device.name, "float32")
    agent, problems = shared.make_agent(variant, config.trainer.seed), shared.sets.train
    with Progress(console, sum(bool(problem.trace) for problem in problems), f"programs shown, {variant}") as progress:
        demonstrations = collect_demonstrations(
            problems, agent.lookahead, agent.cache, config.env, -1, progress, config.cloning.strays,
            config.trainer.seed, agent.options,
        )  # fmt: skip
    trainer = CloningTrainer(config, agent, shared.sets, demonstrations, run, fabric)

    def begin() -> None:
        trainer.init_from(load_checkpoint(cloned_run, CLONING_METHOD))

    result = _train_or_resume(trainer, CLONING_METHOD, begin, run, fabric, f"shown, {variant}", console)
    if not result.status and fabric.is_global_zero:
        first = len(shared.jepa.actions)
        actions = demonstrations.actions
        options = (actions >= first) & (actions < first + len(agent.options))
        values = {"steps": len(demonstrations), "share_options": float(options.float().mean())}
        write_json(run.summary, {"method": CLONING_METHOD, "variant": variant, "results": values})
    close_fabric(fabric)
    return result.status


def train_arm(
    shared: SharedInputs, variant: str, seed: int, initial_run: Path | None, folder: Path, console: Console
) -> tuple[int, EpisodeOutcomes | None]:
    """Trains the policy of one variant and seed by reinforcement learning, and evaluates it.

    Args:
        shared: inputs of both variants.
        variant: one of VARIANTS.
        seed: of the training.
        initial_run: run of `fine_tune_by_imitation` to start from; None to start from scratch.
        folder: run to write; a finished one is only evaluated again, an unfinished one is resumed.
        console: for progress.
    Returns:
        The exit status, and the outcomes on the held-out tasks if it is 0.
    """
    config = dataclasses.replace(shared.config, trainer=dataclasses.replace(shared.config.trainer, seed=seed))
    run = RunFolder(folder)
    fabric = open_fabric(config.device.name, "float32")
    agent = shared.make_agent(variant, seed)
    trainer = Trainer(config, agent, shared.sets, run, fabric)

    def begin() -> None:
        if initial_run is not None:
            trainer.init_from(load_checkpoint(initial_run, CLONING_METHOD))

    result = _train_or_resume(trainer, METHOD, begin, run, fabric, f"{variant}, seed {seed}", console)
    if result.status:
        return result.status, None
    trainer.load(load_checkpoint(run.path, METHOD))
    outcomes = evaluate_greedy(agent, shared.sets.held_out, config.env)
    if fabric.is_global_zero:
        write_json(
            run.summary, {"method": METHOD, "variant": variant, "seed": seed, "results": summarize_decisions(outcomes)}
        )
    close_fabric(fabric)
    return 0, outcomes


def _train_or_resume(
    trainer: Trainer | CloningTrainer, method: str, begin: Callable[[], None], run: RunFolder, fabric: Fabric,
    name: str, console: Console,
) -> TrainingResult:  # fmt: skip
    """Trains to the end or a signal, from the newest checkpoint if there is one.

    Args:
        trainer: what is trained.
        method: of the checkpoints.
        begin: called before the first step of a new run, to load what it starts from.
        run: folder of the run.
        fabric: processes and device.
        name: of the progress line.
        console: for progress.
    """
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    latest = latest_valid_checkpoint(run.checkpoints, method)
    if latest is not None:
        check_resumable(latest[0], config_to_dict(trainer.config), trainer.sets.fingerprint)
        trainer.load(latest[0])
    else:
        write_text(run.config, config_to_yaml(trainer.config, method))
        begin()
    if trainer.step >= trainer.total_steps:
        return TrainingResult(trainer.step, 0)
    progress = Progress(console, trainer.total_steps, name, trainer.step)
    failure = RunFailure("the device ran out of memory; try a smaller trainer.episodes_per_iter or cloning.batch_size")
    result = train_to_end(trainer.train, progress, fabric, run, failure)
    if result.status:
        console.print(result.message, soft_wrap=True)
    return result
