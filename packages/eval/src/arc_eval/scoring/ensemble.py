"""A vote over methods: the attempts that they agree on.

Every method but the baselines gives one point to its first attempt and half a point to its second. No weight is fitted
to answers: the vote knows of each method only that it takes part.
"""

from collections.abc import Sequence

from arc_core.scoring import ATTEMPTS
from arc_core.task import Task
from arc_eval.storage.records import Answers, PredictionRecord, Records

VOTE = "vote"


def vote_over_methods(voters: Sequence[Records], tasks: Sequence[Task]) -> dict[str, PredictionRecord]:
    """Combines the answers of several methods; tasks that no method answered get no record.

    Equal points are ordered by the greater confidence, then by the order of the voters.

    Args:
        voters: the records of each method by task id.
        tasks: the tasks to answer.
    Returns:
        The vote's records by task id.
    """
    combined = {}
    for task in tasks:
        records = [voter[task.task_id] for voter in voters if task.task_id in voter]
        if records:
            combined[task.task_id] = _combine_records(task, records, len(voters))
    return combined


def _combine_records(task: Task, records: Sequence[PredictionRecord], voters: int) -> PredictionRecord:
    return {
        "method": VOTE,
        "checkpoint": "none",
        "task_id": task.task_id,
        "seconds": sum(record["seconds"] for record in records),
        "views": 1,
        "transductive": any(record["transductive"] for record in records),
        "forward_passes": sum(record["forward_passes"] for record in records),
        "programs": sum(record["programs"] for record in records),
        "candidates": [_combine_answers(records, test, voters) for test in range(len(task.test))],
    }


def _combine_answers(records: Sequence[PredictionRecord], test: int, voters: int) -> Answers:
    """Ranks the attempts of all records at one test input by their points."""
    points: dict[str, float] = {}
    max_confidence: dict[str, float] = {}
    supporters: dict[str, list[str]] = {}
    for record in records:
        if test >= len(record["candidates"]):
            continue
        answers = record["candidates"][test]
        attempts = list(zip(answers["grids"], answers["confidences"], strict=True))[:ATTEMPTS]
        for index, (grid, confidence) in enumerate(attempts):
            points[grid] = points.get(grid, 0.0) + 1 / (index + 1)
            max_confidence[grid] = max(max_confidence.get(grid, 0.0), confidence)
            supporters.setdefault(grid, []).append(record["method"])
    ranked = sorted(points, key=lambda grid: (-points[grid], -max_confidence[grid]))
    return {
        "grids": ranked,
        "votes": [len(supporters[grid]) for grid in ranked],
        "confidences": [points[grid] / voters for grid in ranked],
        "explanations": ["answered by " + ", ".join(supporters[grid]) for grid in ranked],
    }
