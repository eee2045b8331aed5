"""Lines of predictions.jsonl: a method's ranked answers to one task, with grids as text so that they compare fast."""

from collections.abc import Mapping
from typing import TypedDict

from arc_core.grid import grid_to_text
from arc_core.solver import Candidate, TaskPrediction


class Answer(TypedDict):
    """A candidate for one test input; `grid` as `arc_core.grid.grid_to_text` gives it."""

    grid: str
    votes: int
    confidence: float
    explanation: str


class Line(TypedDict):
    """What a method's checkpoint answered to a task; `candidates` by test input, best first."""

    method: str
    checkpoint: str
    task_id: str
    seconds: float
    views: int
    transductive: bool
    forward_passes: int
    programs: int
    candidates: list[list[Answer]]


Lines = Mapping[str, Line]  # by task id


def line_of(method: str, key: str, prediction: TaskPrediction) -> Line:
    """The line of a prediction.

    Args:
        key: of the checkpoint's content.
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
        "candidates": [[_answer(candidate) for candidate in candidates] for candidates in prediction.candidates],
    }


def _answer(candidate: Candidate) -> Answer:
    return {
        "grid": grid_to_text(candidate.grid),
        "votes": candidate.votes,
        "confidence": round(candidate.confidence, 6),
        "explanation": candidate.explanation,
    }


def is_line(value: object) -> bool:
    """Whether a JSON value has the form of a `Line`."""
    if not isinstance(value, dict) or value.keys() < Line.__required_keys__:
        return False
    tests = value["candidates"]
    return isinstance(tests, list) and all(
        isinstance(answers, list) and all(isinstance(one, dict) and isinstance(one.get("grid"), str) for one in answers)
        for answers in tests
    )
