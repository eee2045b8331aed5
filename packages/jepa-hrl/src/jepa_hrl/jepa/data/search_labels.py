"""Labels of tasks: whether a short program search, which knows nothing of latents, solves them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from arc_core.config import workspace_folder
from arc_core.datasets import fingerprint
from arc_core.errors import InputError
from arc_core.files import show_path, write_json
from arc_core.progress import Progress
from arc_core.task import Task
from jepa_hrl.search.engine import Limits
from jepa_hrl.search.parallel import search_tasks
from jepa_hrl.search.results import score_outcome


def label_by_search(tasks: Sequence[Task], programs: int, workers: int, console: Console) -> npt.NDArray[np.bool_]:
    """Searches for programs of tasks and tells which tasks are solved in two attempts.

    Args:
        tasks: T tasks, whose test outputs are only used to score the answers.
        programs: that a task's search may test.
        workers: processes; -1 for one for each core.
        console: shows the progress.
    Returns:
        (T,) bool, whether each task is solved.
    """
    solved = np.zeros(len(tasks), dtype=bool)
    limits = Limits(seconds=None, programs=programs)
    with Progress(console, len(tasks), "searches") as progress:
        for done, (index, outcome) in enumerate(search_tasks(tasks, limits, None, workers), 1):
            solved[index] = score_outcome(tasks[index], outcome).solved
            progress.update(done, f"{int(solved.sum())} solved")
    return solved


def select_solved_tasks(programs: int, tasks: Sequence[Task], console: Console) -> list[Task]:
    """Selects the tasks that a search solves; the labels are computed once and then kept in data/.

    Args:
        programs: that a task's search may test.
        tasks: to select from.
        console: shows the progress and the file with the labels.
    Raises:
        InputError: no task is solved, or the stored labels cannot be read.
    """
    file = workspace_folder() / "data" / "solved_by_search" / f"{fingerprint(tasks)}-{programs}.json"
    if not file.exists():
        console.print(f"which of {len(tasks):,} tasks does a search of {programs} programs solve?", highlight=False)
        solved = label_by_search(tasks, programs, -1, console)
        file.parent.mkdir(parents=True, exist_ok=True)
        hashes = [task.content_hash for task, is_solved in zip(tasks, solved, strict=True) if is_solved]
        write_json(file, {"programs": programs, "tasks": len(tasks), "solved": hashes})
    solved_hashes = _read_hashes(file)
    selected = [task for task in tasks if task.content_hash in solved_hashes]
    if not selected:
        raise InputError(f"data.solved_within: no task is solved within {programs} programs; give more")
    console.print(
        f"learning from the {len(selected):,} of {len(tasks):,} that {show_path(file)} names", highlight=False
    )
    return selected


def _read_hashes(file: Path) -> frozenset[str]:
    """Reads the content hashes of the solved tasks."""
    try:
        return frozenset(json.loads(file.read_text(encoding="utf-8"))["solved"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{show_path(file)} must name the tasks that are solved; delete it to search again") from None
