"""The tasks of a comparison, loaded from their data spec once and handed on to everything that needs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from arc_core.datasets import fingerprint, load_tasks
from arc_core.errors import InputError
from arc_core.task import Task


@dataclass(frozen=True)
class EvaluationSet:
    """The tasks that a data spec names, in the order of their ids, of which the first `limit` are evaluated.

    Attributes:
        spec: data spec, such as `arc1:eval`.
        limit: number of tasks to evaluate, at least 1; None for all.
        all_tasks: every task of the spec; a submission must answer all of them.
    """

    spec: str
    limit: int | None
    all_tasks: Sequence[Task]

    @property
    def tasks(self) -> Sequence[Task]:
        """The tasks to evaluate."""
        return self.all_tasks[: self.limit]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the ids and grids of the tasks to evaluate."""
        return fingerprint(self.tasks)


def load_evaluation_set(spec: str, limit: int | None = None, require_answers: bool = True) -> EvaluationSet:
    """Loads the tasks of a data spec.

    Args:
        spec: data spec of the evaluation set.
        limit: number of tasks to evaluate, in the order of their ids; None for all.
        require_answers: refuse tasks whose test outputs are withheld, since they cannot be scored.
    Raises:
        InputError: the spec cannot be read, or answers are required and missing.
    """
    tasks = sorted(load_tasks(spec), key=lambda task: task.task_id)
    withheld = [task.task_id for task in tasks if not task.has_answers]
    if withheld and require_answers:
        raise InputError(
            f"--data must have test outputs to score against; {spec} withholds those of {len(withheld)} tasks, "
            f"{withheld[0]} for one; eval submission answers tasks without scoring them"
        )
    return EvaluationSet(spec, limit, tasks)
