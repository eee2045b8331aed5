"""Scores of one method's stored predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from arc_core.grid import Grid, check_grid
from arc_core.scoring import solved_tests, task_score
from arc_core.solver import Candidate, TaskPrediction
from arc_core.task import Task

PASSES = (1, 2, 5, 10, 100)


@dataclass(frozen=True)
class Scores:
    """Figures of a method over the tasks that it has answered; pass@k counts tasks with every test input right.

    Attributes:
        tasks: how many were scored.
        solved: tasks with every test input right within two attempts.
        score: ARC Prize, the mean over tasks of the fraction of test inputs right within two attempts.
        passed: pass@k by k, fractions of the tasks; a solver that gives fewer candidates is scored on those.
        seconds_per_task: mean.
    """

    tasks: int
    solved: int
    score: float
    passed: dict[int, float]
    seconds_per_task: float

    def as_dict(self) -> dict[str, float]:
        """For results.json."""
        plain = asdict(self)
        passed = {f"pass_at_{k}": rate for k, rate in plain.pop("passed").items()}
        return plain | passed


def prediction_to_json(method: str, key: str, prediction: TaskPrediction) -> dict[str, object]:
    """A line of predictions.jsonl."""
    return {
        "method": method,
        "checkpoint": key,
        "task_id": prediction.task_id,
        "seconds": round(prediction.seconds, 6),
        "views": prediction.views,
        "transductive": prediction.transductive,
        "candidates": [
            [_candidate_to_json(candidate) for candidate in candidates] for candidates in prediction.candidates
        ],
    }


def _candidate_to_json(candidate: Candidate) -> dict[str, object]:
    shown: dict[str, object] = {
        "grid": candidate.grid.tolist(), "votes": candidate.votes, "confidence": round(candidate.confidence, 6)
    }  # fmt: skip
    return shown | ({"explanation": candidate.explanation} if candidate.explanation else {})


def ranked_grids(line: Mapping[str, object]) -> list[list[Grid]]:
    """Per test input, the candidate grids of a stored line, best first."""
    stored = line["candidates"]
    assert isinstance(stored, list)
    return [[check_grid(np.array(candidate["grid"])) for candidate in candidates] for candidates in stored]


def score_lines(lines: Mapping[str, Mapping[str, object]], tasks: Sequence[Task]) -> Scores | None:
    """Scores of stored lines by task id over those of `tasks` that have one; None if none has."""
    answered = [(task, lines[task.task_id]) for task in tasks if task.task_id in lines]
    if not answered:
        return None
    ranked = [(task, ranked_grids(line)) for task, line in answered]
    passed = {k: [all(solved_tests(grids, task, k)) for task, grids in ranked] for k in PASSES}
    seconds = [line["seconds"] for _, line in answered]
    return Scores(
        tasks=len(ranked),
        solved=sum(passed[2]),
        score=float(np.mean([task_score(grids, task) for task, grids in ranked])),
        passed={k: float(np.mean(found)) for k, found in passed.items()},
        seconds_per_task=float(np.mean(np.array(seconds, dtype=np.float64))),
    )
