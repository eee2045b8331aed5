"""What is held equal in a comparison, and what must be said about each method beside its score."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from arc_core.datasets import Overlap, fingerprint, load_tasks, overlap
from arc_core.errors import InputError
from arc_core.solver import Budget, OpenSolver
from arc_core.task import Task

# Of the evaluation tasks, how many may be left out because a method trained on them before the comparison is refused.
MOST_LEFT_OUT = 0.05


@dataclass(frozen=True)
class Protocol:
    """The same for every method of a comparison.

    Attributes:
        data: spec of the evaluation set.
        limit: how many of its tasks, in the order of their ids; None for all.
        fingerprint: of these tasks.
        budget: views and seed.
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


def load_evaluation(data: str, limit: int | None) -> list[Task]:
    """The tasks of an evaluation set in the order of their ids.

    Raises:
        InputError: answers are missing, so that nothing could be scored.
    """
    tasks = sorted(load_tasks(data), key=lambda task: task.task_id)[:limit]
    withheld = [task.task_id for task in tasks if not task.has_answers]
    if withheld:
        raise InputError(
            f"--data must have test outputs to score against; {data} withholds those of {len(withheld)} tasks, "
            f"{withheld[0]} for one"
        )
    return tasks


def make_protocol(data: str, limit: int | None, tasks: Sequence[Task], budget: Budget) -> Protocol:
    """The protocol of scoring these tasks."""
    return Protocol(data, limit, fingerprint(tasks), budget)


def checkpoint_key(opened: OpenSolver) -> str:
    """16 hexadecimal digits of the checkpoint's content, "none" for methods without one."""
    if opened.checkpoint is None:
        return "none"
    with opened.checkpoint.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def training_overlap(opened: OpenSolver, tasks: Sequence[Task]) -> Overlap:
    """Which evaluation tasks the method's training data holds."""
    return overlap(tasks, [task for spec in opened.training_data for task in load_tasks(spec)])


def left_out(overlaps: Sequence[tuple[str, Overlap]], tasks: Sequence[Task], allow: bool) -> list[str]:
    """Ids of tasks that no method is scored on because the training data of one of them holds the task.

    Raises:
        InputError: they are so many that the comparison would be another one.
    """
    if allow:
        return []
    found = sorted({task_id for _, shared in overlaps for task_id in shared.any})
    if len(found) > max(1, MOST_LEFT_OUT * len(tasks)):
        worst = max(overlaps, key=lambda pair: len(pair[1].any))
        raise InputError(
            f"{len(worst[1].any)} of the {len(tasks)} evaluation tasks are in the training data of {worst[0]}, whose "
            f"score would say nothing; evaluate on other tasks, or add --allow-overlap to score and mark them"
        )
    return found
