"""Kaggle's submission format: `{task_id: [{"attempt_1": rows, "attempt_2": rows}, one for each test input], ...}`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from arc_core.errors import InputError
from arc_core.files import write_text
from arc_core.grid import GridError, describe, grid_from_rows, grid_from_text, grid_to_text
from arc_core.scoring import ATTEMPTS
from arc_core.task import Task, parse_json, read_bytes
from arc_eval.storage.records import PredictionRecord, Records

SUBMISSION = "submission"
_ATTEMPT_KEYS = tuple(f"attempt_{index}" for index in range(1, ATTEMPTS + 1))
_BLANK = [[0, 0], [0, 0]]  # the attempt where there is no answer, as in the competition's sample

Attempts = list[dict[str, list[list[int]]]]  # both attempts at each test input of a task


def make_submission(records: Records, tasks: Sequence[Task]) -> dict[str, Attempts]:
    """Returns a method's first two answers to every test input by task id, blank where it has none.

    Args:
        records: the method's answers by task id.
        tasks: the tasks that the submission must answer.
    """
    return {
        task.task_id: [_make_attempts(records.get(task.task_id), test) for test in range(len(task.test))]
        for task in tasks
    }


def _make_attempts(record: PredictionRecord | None, test: int) -> dict[str, list[list[int]]]:
    grids = record["candidates"][test]["grids"] if record is not None and test < len(record["candidates"]) else []
    try:
        rows = [grid_from_text(grid).tolist() for grid in grids[:ATTEMPTS]]
    except GridError as error:
        assert record is not None
        raise InputError(
            f"a stored answer to {record['task_id']} is no grid ({error}); solve it again with --fresh"
        ) from None
    return dict(zip(_ATTEMPT_KEYS, rows + [_BLANK] * (ATTEMPTS - len(rows)), strict=True))


def write_submission(path: Path, answers: Mapping[str, Attempts], tasks: Sequence[Task]) -> None:
    """Checks a submission and writes it.

    Args:
        path: the file to write.
        answers: both attempts at each test input, by task id.
        tasks: the tasks that the submission must answer.
    Raises:
        InputError: see `check_submission`.
    """
    check_submission(answers, tasks, str(path))
    write_text(path, json.dumps(answers) + "\n")


def read_submission(path: Path, tasks: Sequence[Task]) -> dict[str, Attempts]:
    """Reads a submission and checks it against the tasks that it must answer.

    Raises:
        InputError: the file cannot be read, or see `check_submission`.
    """
    value = parse_json(read_bytes(path), str(path))
    check_submission(value, tasks, str(path))
    assert isinstance(value, dict)
    return value


def check_submission(value: object, tasks: Sequence[Task], source: str) -> None:
    """Checks that a JSON value answers every test input of the tasks in two attempts.

    Args:
        value: the parsed content of a submission file.
        tasks: the tasks that it must answer.
        source: name of the file, for error messages.
    Raises:
        InputError: it does not; one line for each kind of fault, with the count and one example.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{source} must be an object of answers by task id; got {describe(value)}")
    test_counts = {task.task_id: len(task.test) for task in tasks}
    faults: dict[str, list[str]] = {}
    for task_id in test_counts.keys() - value.keys():
        faults.setdefault("tasks are missing", []).append(task_id)
    for task_id, answers in value.items():
        if task_id not in test_counts:
            faults.setdefault("ids are not among the tasks of the data", []).append(task_id)
            continue
        for fault in set(_find_faults(answers, test_counts[task_id])):
            faults.setdefault(fault, []).append(task_id)
    if faults:
        lines = (f"{len(ids):,} {fault}, {min(ids)!a} for one" for fault, ids in faults.items())
        raise InputError("\nerror: ".join(f"{source}: {line}" for line in lines))


def _find_faults(answers: object, tests: int) -> list[str]:
    if not isinstance(answers, list) or len(answers) != tests:
        return ["tasks have not one answer for each test input"]
    faults = []
    for attempts in answers:
        if not isinstance(attempts, Mapping) or set(attempts) != set(_ATTEMPT_KEYS):
            faults.append(f"tasks have other attempts than {' and '.join(_ATTEMPT_KEYS)}")
            continue
        for rows in attempts.values():
            try:
                grid_from_rows(rows)
            except GridError:
                faults.append("tasks have an attempt that is no grid of 1 to 30 equally long rows of 0..9")
    return faults


def submission_records(answers: Mapping[str, Attempts], key: str) -> list[PredictionRecord]:
    """Converts a submission's answers to records of predictions.jsonl; `key` is a hash of its content."""
    return [
        {
            "method": SUBMISSION, "checkpoint": key, "task_id": task_id, "seconds": 0.0, "views": 0,
            "transductive": False, "forward_passes": 0, "programs": 0,
            "candidates": [
                {"grids": [grid_to_text(grid_from_rows(attempts[name])) for name in _ATTEMPT_KEYS],
                 "votes": [1] * ATTEMPTS, "confidences": [0.0] * ATTEMPTS, "explanations": [""] * ATTEMPTS}
                for attempts in tests
            ],
        }
        for task_id, tests in answers.items()
    ]  # fmt: skip
