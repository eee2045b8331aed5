"""Which tasks a short search of programs solves that is told nothing of latents."""

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


def solved_by_search(tasks: Sequence[Task], programs: int, workers: int, console: Console) -> npt.NDArray[np.bool_]:
    """(T,) which tasks a search of so many programs solves in two attempts."""
    solved = np.zeros(len(tasks), dtype=bool)
    limits = Limits(seconds=None, programs=programs)
    with Progress(console, len(tasks), "searches") as progress:
        for done, (number, outcome) in enumerate(search_tasks(tasks, limits, None, workers), 1):
            solved[number] = score_outcome(tasks[number], outcome).solved
            progress.update(done, f"{int(solved.sum())} solved")
    return solved


def tasks_solved_within(programs: int, tasks: Sequence[Task], console: Console) -> list[Task]:
    """Those of some tasks that a search of so many programs solves; searched once, then remembered in data/.

    Raises:
        InputError: there are none, or what is remembered cannot be read.
    """
    file = workspace_folder() / "data" / "solved_by_search" / f"{fingerprint(tasks)}-{programs}.json"
    if not file.exists():
        console.print(f"which of {len(tasks):,} tasks does a search of {programs} programs solve?", highlight=False)
        solved = solved_by_search(tasks, programs, -1, console)
        file.parent.mkdir(parents=True, exist_ok=True)
        known = [task.content_hash for task, is_solved in zip(tasks, solved, strict=True) if is_solved]
        write_json(file, {"programs": programs, "tasks": len(tasks), "solved": known})
    solvable = _read(file)
    kept = [task for task in tasks if task.content_hash in solvable]
    if not kept:
        raise InputError(f"data.solved_within: no task is solved within {programs} programs; give more")
    console.print(f"learning from the {len(kept):,} of {len(tasks):,} that {show_path(file)} names", highlight=False)
    return kept


def _read(file: Path) -> frozenset[str]:
    try:
        return frozenset(json.loads(file.read_text(encoding="utf-8"))["solved"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{show_path(file)} must name the tasks that are solved; delete it to search again") from None
