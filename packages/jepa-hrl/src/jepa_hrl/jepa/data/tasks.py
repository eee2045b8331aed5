"""The tasks that a JEPA learns from; synthetic ones are generated where they are missing."""

from pathlib import Path

from rich.console import Console

from arc_core.config import workspace_folder
from arc_core.datasets import load_training_tasks, source_digest
from arc_core.errors import InputError
from arc_core.files import show_path
from arc_core.task import Task
from jepa_hrl.jepa.config import DataConfig
from jepa_hrl.jepa.data.search_labels import select_solved_tasks
from jepa_hrl.synthesis.dataset import generate, read_config


def curriculum_manifest(name: str, console: Console) -> Path:
    """Returns the manifest of a config in configs/data, whose tasks are generated if data/ does not have them yet.

    Raises:
        InputError: there is no such config.
    """
    config = read_config(workspace_folder() / "configs" / "data" / f"{name}.yaml")
    folder = workspace_folder() / "data" / config.name
    if not (folder / "summary.json").exists():
        console.print(f"generating the tasks of {name} into {show_path(folder)}", highlight=False, soft_wrap=True)
        generate(config, folder, -1, console)
    return folder / "manifest.jsonl"


def training_spec(config: DataConfig, console: Console) -> str:
    """Returns the data spec of the tasks; those of a curriculum are generated if they are missing."""
    if config.tasks is not None:
        return config.tasks
    return f"manifest:{show_path(curriculum_manifest(config.curriculum, console))}"


def training_tasks(config: DataConfig, console: Console) -> tuple[str, list[Task]]:
    """Loads the tasks to learn from.

    Returns:
        Their data spec, and the tasks.
    Raises:
        InputError: a task has fewer than two pairs, or a test without output; or see `select_solved_tasks`.
    """
    spec = training_spec(config, console)
    tasks = load_training_tasks(spec)[: config.max_tasks]
    for task in tasks:
        if len(task.train) < 2 or not task.has_answers:
            raise InputError(f"data.tasks: task {task.task_id} must have two demonstrations and every test's output")
    if config.solved_within is not None:
        tasks = select_solved_tasks(config.solved_within, tasks, console)
    return spec, tasks


def tasks_digest(config: DataConfig, console: Console) -> str | None:
    """Returns a digest of the files that the tasks are read from and of how many are used; equal ones mean equal tasks.

    None if the tasks depend on more than that.
    """
    if config.solved_within is not None:
        return None
    source = source_digest(training_spec(config, console))
    return source and f"{source} {config.max_tasks}"
