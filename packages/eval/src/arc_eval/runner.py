"""Runs one method on the tasks that it has not answered yet; an error costs only the task that caused it."""

import logging
from collections.abc import Sequence

from rich.console import Console

from arc_core.errors import InputError, RunFailure
from arc_core.progress import Progress
from arc_core.solver import Budget, TaskPrediction
from arc_core.task import Task
from arc_eval.methods import Method
from arc_eval.storage.prediction_store import PredictionStore
from arc_eval.storage.records import prediction_record

logger = logging.getLogger(__name__)

_MAX_CONSECUTIVE_ERRORS = 5  # before a method is given up


def run_method(method: Method, tasks: Sequence[Task], budget: Budget, store: PredictionStore, console: Console) -> None:
    """Stores each prediction as soon as it is made, and records errors in the method's info.

    Args:
        method: a solver to ask, or a submission whose answers are copied into the store.
        tasks: the tasks to answer; the solver receives them without test outputs.
        budget: what the solver may spend.
        store: where predictions go; tasks that it has answers to are skipped.
        console: where progress is shown.
    Raises:
        InputError, RunFailure: the solver cannot go on at all.
    """
    info = method.info
    stored = store.records(info.method, info.checkpoint_key)
    if method.records:
        ids = {task.task_id for task in tasks}
        store.append(
            record for record in method.records if record["task_id"] in ids and record["task_id"] not in stored
        )
        return
    if method.opened is None:
        return
    remaining = [task.without_answers() for task in tasks if task.task_id not in stored]
    done = len(tasks) - len(remaining)
    with Progress(console, len(tasks), info.label, done) as progress:
        if done:
            progress.say(f"{info.label}: {done} of {len(tasks)} tasks were solved before")
        _Runner(method, budget, store, progress, done).run(remaining)


class _Runner:
    """Feeds tasks to one solver and isolates those that make it fail."""

    def __init__(self, method: Method, budget: Budget, store: PredictionStore, progress: Progress, done: int) -> None:
        self._info, self._budget, self._store, self._progress, self._done = method.info, budget, store, progress, done
        assert method.opened is not None
        self._solver = method.opened.solver
        self._consecutive_errors = 0

    def run(self, tasks: Sequence[Task]) -> None:
        """Solves the tasks; if the solver fails on a batch, bisects it, since the error does not name the task."""
        remaining = {task.task_id: task for task in tasks}
        if not remaining or self._consecutive_errors >= _MAX_CONSECUTIVE_ERRORS:
            return
        try:
            for prediction in self._solver.solve(list(remaining.values()), self._budget):
                self._keep(prediction, remaining)
            if remaining:
                raise LookupError(f"gave no prediction for {', '.join(remaining)}")
        except (InputError, RunFailure):
            raise
        except Exception as error:  # any error of one solver, which must not end the others
            unsolved = list(remaining.values())
            if len(unsolved) > 1:
                logger.debug("solver %s failed among %d tasks", self._info.label, len(unsolved), exc_info=True)
                self.run(unsolved[: len(unsolved) // 2])
                self.run(unsolved[len(unsolved) // 2 :])
                return
            self._record_error(unsolved[0], error)

    def _keep(self, prediction: TaskPrediction, remaining: dict[str, Task]) -> None:
        """Stores a prediction and takes its task off the remaining ones."""
        if remaining.pop(prediction.task_id, None) is None:
            raise LookupError(f"answered {prediction.task_id}, which it was not asked, or twice")
        self._store.append([prediction_record(self._info.method, self._info.checkpoint_key, prediction)])
        self._consecutive_errors = 0
        self._done += 1
        self._progress.update(self._done)

    def _record_error(self, task: Task, error: Exception) -> None:
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        logger.debug("solver %s failed on %s", self._info.label, task.task_id, exc_info=error)
        self._info.errors[task.task_id] = message
        self._progress.say(f"{self._info.label} failed on {task.task_id}: {message}")
        self._consecutive_errors += 1
        if self._consecutive_errors == _MAX_CONSECUTIVE_ERRORS:
            self._info.note = f"given up after it failed on {_MAX_CONSECUTIVE_ERRORS} tasks in a row: {message}"
