"""The tasks that a JEPA learns from; synthetic ones are generated where they are missing."""

from pathlib import Path

from rich.console import Console

from arc_core.config import workspace_folder
from arc_core.datasets import load_training_tasks, source_digest
from arc_core.errors import InputError
from arc_core.files import show_path
from arc_core.task import Task
from jepa_hrl.jepa.config import DataConfig
from jepa_hrl.jepa.data.search_labels import tasks_solved_within
from jepa_hrl.synthesis.dataset import generate, read_config


def curriculum_manifest(name: str, console: Console) -> Path:
    """The manifest of a config in configs/data, generated if data/ does not have it yet.

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
    """The data spec of the tasks; a curriculum's are generated if they are missing."""
    if config.tasks is not None:
        return config.tasks
    return f"manifest:{show_path(curriculum_manifest(config.curriculum, console))}"


def training_tasks(config: DataConfig, console: Console) -> tuple[str, list[Task]]:
    """The data spec and its tasks.

    Raises:
        InputError: a task has fewer than two pairs, or a test without output; or see `tasks_solved_within`.
    """
    spec = training_spec(config, console)
    tasks = load_training_tasks(spec)[: config.max_tasks]
    for task in tasks:
        if len(task.train) < 2 or not task.has_answers:
            raise InputError(f"data.tasks: task {task.task_id} must have two demonstrations and every test's output")
    if config.solved_within is not None:
        tasks = tasks_solved_within(config.solved_within, tasks, console)
    return spec, tasks


def tasks_digest(config: DataConfig, console: Console) -> str | None:
    """Of what the tasks are read from and how many are taken: equal ones have equal tasks. None if that is not all."""
    if config.solved_within is not None:
        return None
    source = source_digest(training_spec(config, console))
    return source and f"{source} {config.max_tasks}"
