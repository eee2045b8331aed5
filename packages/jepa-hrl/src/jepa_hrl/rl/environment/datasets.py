"""The problems to train on and the held-out ones; tasks that are missing are generated."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from arc_core.config import workspace_folder
from arc_core.datasets import fingerprint, load_tasks
from arc_core.errors import InputError
from arc_core.files import show_path
from arc_core.randomness import seed_for
from jepa_hrl.jepa.data.tasks import curriculum_manifest
from jepa_hrl.rl.config import EnvConfig, ReasonerConfig, TasksConfig
from jepa_hrl.rl.environment.problems import Problem, generate_practice_problems, load_problems
from jepa_hrl.world_model.actions import ActionSet


@dataclass(frozen=True)
class ProblemSets:
    """The problems of a training run.

    Attributes:
        train, held_out: problems to train on, and others to measure on.
        specs: data specs of the training tasks, which a checkpoint declares.
        fingerprint: of the training tasks; a resumed run must have the same.
    """

    train: list[Problem]
    held_out: list[Problem]
    specs: tuple[str, ...]
    fingerprint: str


def training_manifest(config: TasksConfig, console: Console) -> Path:
    """Returns the manifest of the training tasks: the configured one, or the curriculum's, generated if missing."""
    return Path(config.manifest) if config.manifest is not None else curriculum_manifest(config.curriculum, console)


def load_problem_sets(
    config: TasksConfig, env: EnvConfig, actions: ActionSet, seed: int, console: Console
) -> ProblemSets:
    """Loads the training and held-out problems, and generates the practice problems.

    A training problem with the same grids as a held-out one is left out.

    Args:
        config: where the problems come from.
        env: says how many demonstrations a problem has.
        actions: actions that the tasks' programs are written in.
        seed: of the practice problems.
        console: told what is being generated.
    Raises:
        InputError: no training problem is left, or a manifest cannot be read.
    """
    manifest = training_manifest(config, console)
    given = config.held_out_manifest
    held_manifest = Path(given) if given is not None else curriculum_manifest(config.held_out, console)
    train = load_problems(manifest, actions, env.demonstrations)
    held_out = load_problems(held_manifest, actions, env.demonstrations)
    if config.practice:
        console.print(f"drawing {config.practice:,} problems to practise on ...", highlight=False)
        recipe = workspace_folder() / "configs" / "data" / f"{config.practice_curriculum}.yaml"
        train += generate_practice_problems(recipe, config.practice, seed, actions, env.demonstrations)
    held_contents = {_content(problem) for problem in held_out}
    train = [problem for problem in train if _content(problem) not in held_contents]
    if not train:
        raise InputError(f"{show_path(manifest)} must have tasks that {show_path(held_manifest)} has not")
    spec = f"manifest:{show_path(manifest)}"
    return ProblemSets(train, held_out, (spec,), fingerprint(load_tasks(spec)))


def practice_seed(config: ReasonerConfig) -> int:
    """Returns the seed of the practice problems of reinforcement learning.

    It differs from that of imitation: a cloned policy errs less on the problems that it was shown.
    """
    return seed_for(config.trainer.seed, "practice", 0)


def _content(problem: Problem) -> tuple[bytes, ...]:
    return tuple(grid.tobytes() for grid in problem.inputs + problem.goals)
