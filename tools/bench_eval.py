"""Measures the time to score stored predictions, and the time and size of a report of 400 tasks and 6 methods.

    uv run tools/bench_eval.py

Answers are generated from the tasks' own outputs, some right and some with one cell changed: 32 for each test input,
as many as a vote over 32 views can give.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from arc_core.datasets import load_tasks
from arc_core.files import write_json
from arc_core.grid import Grid
from arc_core.runs import git_commit
from arc_core.solver import Budget, Candidate, TaskPrediction
from arc_core.task import Task
from arc_eval.compare import make_header
from arc_eval.evaluation_set import EvaluationSet
from arc_eval.methods import MethodInfo
from arc_eval.protocol import make_protocol
from arc_eval.report.build import write_report
from arc_eval.result_commands import load_comparison
from arc_eval.storage.prediction_store import PredictionStore
from arc_eval.storage.records import PredictionRecord, prediction_record
from arc_eval.storage.results import compare_methods

DATA = "arc1:train"
CANDIDATES = 32


def change_cell(grid: Grid, rng: random.Random) -> Grid:
    """Returns the grid with one cell in another colour."""
    other = np.array(grid)
    row, column = rng.randrange(grid.shape[0]), rng.randrange(grid.shape[1])
    other[row, column] = (other[row, column] + rng.randrange(1, 10)) % 10
    return other


def make_answers(name: str, task: Task, rng: random.Random) -> PredictionRecord:
    """Generates a method's answers to a task; half of its test inputs have the right one at a random rank.

    Args:
        name: name of the method.
        task: the task with its test outputs.
        rng: generator to draw from.
    """
    tests = []
    for pair in task.test:
        assert pair.output is not None
        answers = [change_cell(pair.output, rng) for _ in range(CANDIDATES)]
        if rng.random() < 0.5:
            answers[rng.randrange(CANDIDATES)] = pair.output
        tests.append(tuple(Candidate(grid, 1, rng.random(), "crop_to_content(input)") for grid in answers))
    return prediction_record(name, "none", TaskPrediction(task.task_id, tuple(tests), rng.random(), CANDIDATES))


def measure_seconds(work: Callable[[], object]) -> float:
    """Measures the median seconds of three runs."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def store_comparison(folder: Path, methods: int, tasks: list[Task]) -> None:
    """Writes a comparison of methods with generated answers.

    Args:
        folder: folder of the comparison.
        methods: number of methods.
        tasks: the tasks that they answer.
    """
    rng = random.Random(0)
    infos = [MethodInfo(f"method {index}", f"method {index}") for index in range(methods)]
    with PredictionStore(folder / "predictions.jsonl") as store:
        for info in infos:
            store.append(make_answers(info.method, task, rng) for task in tasks)
        stored = {info.label: store.records(info.method, "none") for info in infos}
        header = make_header(make_protocol(EvaluationSet(DATA, None, tasks), Budget()), [], False, "cpu")
        write_json(folder / "results.json", compare_methods(header, infos, stored, tasks).results)


def main() -> None:
    """Prints the times and sizes beside their targets."""
    tasks = sorted(load_tasks(DATA), key=lambda task: task.task_id)
    print(f"commit {git_commit()}, {len(tasks)} tasks, {CANDIDATES} answers a test input")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "six"
        folder.mkdir()
        store_comparison(folder, 6, tasks)
        seconds = measure_seconds(lambda: write_report(folder / "report.html", load_comparison(folder)[0]))
        size = (folder / "report.html").stat().st_size / 2**20
        print(f"report of 400 tasks x 6 methods and their vote: {seconds:.2f} s, {size:.1f} MiB (targets 10 s, 15 MB)")
        folder = Path(name) / "many"
        folder.mkdir()
        store_comparison(folder, 25, tasks)
        size = (folder / "predictions.jsonl").stat().st_size / 2**20
        seconds = measure_seconds(lambda: load_comparison(folder)[0].results)
        print(f"10,000 predictions ({size:.0f} MiB) scored, intervals and pairs included: {seconds:.2f} s (target 2)")


if __name__ == "__main__":
    main()
