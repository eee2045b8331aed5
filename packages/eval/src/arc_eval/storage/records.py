"""Lines of predictions.jsonl: a method's ranked answers to one task, with grids as text so that they compare fast."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from arc_core.grid import grid_to_text
from arc_core.solver import Candidate, TaskPrediction


class Answers(TypedDict):
    """Candidates for one test input, best first; a list for each of their attributes, as that is read several times
    faster than an object for each candidate. `grids` are as `arc_core.grid.grid_to_text` gives them."""

    grids: list[str]
    votes: list[int]
    confidences: list[float]
    explanations: list[str]


class Line(TypedDict):
    """What a method's checkpoint answered to a task; `candidates` by test input."""

    method: str
    checkpoint: str
    task_id: str
    seconds: float
    views: int
    transductive: bool
    forward_passes: int
    programs: int
    candidates: list[Answers]


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
        "candidates": [_answers(candidates) for candidates in prediction.candidates],
    }


def _answers(candidates: Sequence[Candidate]) -> Answers:
    return {
        "grids": [grid_to_text(candidate.grid) for candidate in candidates],
        "votes": [candidate.votes for candidate in candidates],
        "confidences": [round(candidate.confidence, 6) for candidate in candidates],
        "explanations": [candidate.explanation for candidate in candidates],
    }


def is_line(value: object) -> bool:
    """Whether a JSON value has the form of a `Line`."""
    if not isinstance(value, dict) or not value.keys() >= Line.__required_keys__:
        return False
    tests = value["candidates"]
    return isinstance(tests, list) and all(_are_answers(answers) for answers in tests)


def _are_answers(value: object) -> bool:
    """Whether the lists are there, are as long as each other, and hold texts where those are compared."""
    if not isinstance(value, dict) or not value.keys() >= Answers.__required_keys__:
        return False
    columns = [value[name] for name in Answers.__required_keys__]
    return all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns) and all(
        isinstance(grid, str) for grid in value["grids"]
    )
