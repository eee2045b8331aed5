"""Solves with one method what is not stored yet; a fault costs the task that it came from, not the others."""

import logging
from collections.abc import Sequence

from rich.console import Console

from arc_core.errors import InputError, RunFailure
from arc_core.progress import Progress
from arc_core.solver import Budget, TaskPrediction
from arc_core.task import Task
from arc_eval.methods import Method
from arc_eval.storage.prediction_store import PredictionStore
from arc_eval.storage.records import line_of

logger = logging.getLogger(__name__)

_MOST_ERRORS = 5  # in a row, before a method is given up


def run_method(method: Method, tasks: Sequence[Task], budget: Budget, store: PredictionStore, console: Console) -> None:
    """Stores each prediction as it comes, and notes in the method's row what failed."""
    row = method.row
    known = store.of(row.method, row.checkpoint_key)
    if method.lines:
        wanted = {task.task_id for task in tasks}
        store.append(line for line in method.lines if line["task_id"] in wanted and line["task_id"] not in known)
        return
    if method.opened is None:
        return
    waiting = [task.without_answers() for task in tasks if task.task_id not in known]
    done = len(tasks) - len(waiting)
    with Progress(console, len(tasks), row.label, done) as progress:
        if done:
            progress.say(f"{row.label}: {done} of {len(tasks)} tasks were solved before")
        _Runner(method, budget, store, progress, done).run(waiting)


class _Runner:
    def __init__(self, method: Method, budget: Budget, store: PredictionStore, progress: Progress, done: int) -> None:
        self._row, self._budget, self._store, self._progress, self._done = method.row, budget, store, progress, done
        assert method.opened is not None
        self._solver = method.opened.solver
        self._in_a_row = 0

    def run(self, tasks: Sequence[Task]) -> None:
        """Solves the tasks. What stopped the solver is sought by halves, as a batch does not tell which task it was."""
        waiting = {task.task_id: task for task in tasks}
        if not waiting or self._in_a_row >= _MOST_ERRORS:
            return
        try:
            for prediction in self._solver.solve(list(waiting.values()), self._budget):
                self._keep(prediction, waiting)
            if waiting:
                raise LookupError(f"gave no prediction for {', '.join(waiting)}")
        except (InputError, RunFailure):
            raise
        except Exception as error:  # any fault of one solver, which must not end the others
            left = list(waiting.values())
            if len(left) > 1:
                logger.debug("solver %s failed among %d tasks", self._row.label, len(left), exc_info=True)
                self.run(left[: len(left) // 2])
                self.run(left[len(left) // 2 :])
                return
            self._fail(left[0], error)

    def _keep(self, prediction: TaskPrediction, waiting: dict[str, Task]) -> None:
        if waiting.pop(prediction.task_id, None) is None:
            raise LookupError(f"answered {prediction.task_id}, which it was not asked, or twice")
        self._store.append([line_of(self._row.method, self._row.checkpoint_key, prediction)])
        self._in_a_row = 0
        self._done += 1
        self._progress.update(self._done)

    def _fail(self, task: Task, error: Exception) -> None:
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        logger.debug("solver %s failed on %s", self._row.label, task.task_id, exc_info=error)
        self._row.errors[task.task_id] = message
        self._progress.say(f"{self._row.label} failed on {task.task_id}: {message}")
        self._in_a_row += 1
        if self._in_a_row == _MOST_ERRORS:
            self._row.note = f"given up after it failed on {_MOST_ERRORS} tasks in a row: {message}"
