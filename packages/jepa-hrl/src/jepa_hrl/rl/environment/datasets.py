"""The problems that a reasoner learns from and is measured by; what is missing is generated."""

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
    """Attributes:
    train, held_out: problems.
    specs: what was learnt from, for declarations.
    fingerprint: of the tasks learnt from.
    """

    train: list[Problem]
    held_out: list[Problem]
    specs: tuple[str, ...]
    fingerprint: str


def training_manifest(config: TasksConfig, console: Console) -> Path:
    """The tasks that are learnt from: a manifest of the user's, or the curriculum's, generated if missing."""
    return Path(config.manifest) if config.manifest is not None else curriculum_manifest(config.curriculum, console)


def load_problem_sets(
    config: TasksConfig, env: EnvConfig, actions: ActionSet, seed: int, console: Console
) -> ProblemSets:
    """The tasks of the curriculum with others of its programs to practise on, and the held-out ones.

    What has the grids of a held-out task is left out.

    Args:
        seed: of the problems to practise on.
    Raises:
        InputError: nothing is left to learn from, or a manifest cannot be read.
    """
    manifest = training_manifest(config, console)
    given = config.held_out_manifest
    held_manifest = Path(given) if given is not None else curriculum_manifest(config.held_out, console)
    learnt = load_problems(manifest, actions, env.demonstrations)
    held_out = load_problems(held_manifest, actions, env.demonstrations)
    if config.practice:
        console.print(f"drawing {config.practice:,} problems to practise on ...", highlight=False)
        recipe = workspace_folder() / "configs" / "data" / f"{config.practice_curriculum}.yaml"
        learnt += generate_practice_problems(recipe, config.practice, seed, actions, env.demonstrations)
    seen = {_content(problem) for problem in held_out}
    learnt = [problem for problem in learnt if _content(problem) not in seen]
    if not learnt:
        raise InputError(f"{show_path(manifest)} must have tasks that {show_path(held_manifest)} has not")
    spec = f"manifest:{show_path(manifest)}"
    return ProblemSets(learnt, held_out, (spec,), fingerprint(load_tasks(spec)))


def practice_seed(config: ReasonerConfig) -> int:
    """Of the problems that are practised on after cloning: others, as a policy errs less on those that it was shown."""
    return seed_for(config.trainer.seed, "practice", 0)


def _content(problem: Problem) -> tuple[bytes, ...]:
    return tuple(grid.tobytes() for grid in problem.inputs + problem.goals)
