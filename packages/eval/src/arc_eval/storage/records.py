"""Records of predictions.jsonl: a method's ranked answers to one task, with grids as text so that they compare fast."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from arc_core.grid import grid_to_text
from arc_core.solver import Candidate, TaskPrediction


class Answers(TypedDict):
    """The candidates for one test input, best first, as one list for each of their attributes.

    Lists are read several times faster than one object for each candidate. `grids` are in the form of
    `arc_core.grid.grid_to_text`.
    """

    grids: list[str]
    votes: list[int]
    confidences: list[float]
    explanations: list[str]


class PredictionRecord(TypedDict):
    """The answers of one checkpoint of a method to one task; `candidates` has one entry for each test input."""

    method: str
    checkpoint: str
    task_id: str
    seconds: float
    views: int
    transductive: bool
    forward_passes: int
    programs: int
    candidates: list[Answers]


Records = Mapping[str, PredictionRecord]  # by task id


def prediction_record(method: str, key: str, prediction: TaskPrediction) -> PredictionRecord:
    """Converts a solver's prediction to the record that is stored.

    Args:
        method: name of the method.
        key: hash of the checkpoint, see `MethodInfo.checkpoint_key`.
        prediction: the solver's answers to one task.
    """
    return {
        "method": method,
        "checkpoint": key,
        "task_id": prediction.task_id,
        "seconds": round(prediction.seconds, 6),
        "views": prediction.views,
        "transductive": prediction.transductive,
        "forward_passes": prediction.forward_passes,
        "programs": prediction.programs,
        "candidates": [_to_answers(candidates) for candidates in prediction.candidates],
    }


def _to_answers(candidates: Sequence[Candidate]) -> Answers:
    return {
        "grids": [grid_to_text(candidate.grid) for candidate in candidates],
        "votes": [candidate.votes for candidate in candidates],
        "confidences": [round(candidate.confidence, 6) for candidate in candidates],
        "explanations": [candidate.explanation for candidate in candidates],
    }


def is_prediction_record(value: object) -> bool:
    """Whether a JSON value has the form of a `PredictionRecord`."""
    if not isinstance(value, dict) or not value.keys() >= PredictionRecord.__required_keys__:
        return False
    tests = value["candidates"]
    return isinstance(tests, list) and all(_is_answers(answers) for answers in tests)


def _is_answers(value: object) -> bool:
    """Whether a JSON value has the lists of `Answers`, all of one length, with texts as grids."""
    if not isinstance(value, dict) or not value.keys() >= Answers.__required_keys__:
        return False
    columns = [value[name] for name in Answers.__required_keys__]
    return all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns) and all(
        isinstance(grid, str) for grid in value["grids"]
    )
