"""A vote over methods: what their attempts agree on.

Every method but the baselines gives one point to its first attempt and half a point to its second. No weight is fitted
to answers: the vote knows of each method only that it takes part.
"""

from collections.abc import Sequence

from arc_core.scoring import ATTEMPTS
from arc_core.task import Task
from arc_eval.storage.records import Answers, Line, Lines

LABEL = "vote"


def vote_over_methods(voters: Sequence[Lines], tasks: Sequence[Task]) -> dict[str, Line]:
    """The vote's lines by task id; tasks that no method answered have none.

    A tie goes to the greater confidence, then to the voter that stands first.
    """
    lines = {}
    for task in tasks:
        found = [lines_of[task.task_id] for lines_of in voters if task.task_id in lines_of]
        if found:
            lines[task.task_id] = _joint_line(task, found, len(voters))
    return lines


def _joint_line(task: Task, found: Sequence[Line], voters: int) -> Line:
    return {
        "method": LABEL,
        "checkpoint": "none",
        "task_id": task.task_id,
        "seconds": sum(line["seconds"] for line in found),
        "views": 1,
        "transductive": any(line["transductive"] for line in found),
        "forward_passes": sum(line["forward_passes"] for line in found),
        "programs": sum(line["programs"] for line in found),
        "candidates": [_joint_answers(found, test, voters) for test in range(len(task.test))],
    }


def _joint_answers(found: Sequence[Line], test: int, voters: int) -> Answers:
    points: dict[str, float] = {}
    surest: dict[str, float] = {}
    names: dict[str, list[str]] = {}
    for line in found:
        if test >= len(line["candidates"]):
            continue
        answers = line["candidates"][test]
        attempts = list(zip(answers["grids"], answers["confidences"], strict=True))[:ATTEMPTS]
        for place, (grid, confidence) in enumerate(attempts):
            points[grid] = points.get(grid, 0.0) + 1 / (place + 1)
            surest[grid] = max(surest.get(grid, 0.0), confidence)
            names.setdefault(grid, []).append(line["method"])
    ranked = sorted(points, key=lambda grid: (-points[grid], -surest[grid]))
    return {
        "grids": ranked,
        "votes": [len(names[grid]) for grid in ranked],
        "confidences": [points[grid] / voters for grid in ranked],
        "explanations": ["answered by " + ", ".join(names[grid]) for grid in ranked],
    }
