"""The rank of the right answer among a method's candidates, and the scores that follow from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arc_core.grid import grid_to_text
from arc_core.scoring import ATTEMPTS
from arc_core.task import Task
from arc_eval.scoring.statistics import Floats
from arc_eval.storage.records import Records

PASS_AT = (1, 2, 3, 5, 10, 20, 50, 100)
UNRANKED = 1_000_000  # the rank of a right answer that is not among the candidates


@dataclass(frozen=True)
class AnswerKey:
    """The right answers of the tasks to score, as text so that they compare fast.

    Attributes:
        tasks: tasks with their test outputs.
    """

    tasks: Sequence[Task]

    @cached_property
    def texts(self) -> list[list[str]]:
        """The right answer as text, by task and test input."""
        return [[grid_to_text(pair.output) for pair in task.test if pair.output is not None] for task in self.tasks]


@dataclass(frozen=True)
class AnswerRanks:
    """The ranks of the right answers among a method's candidates; a task without an answer counts as wrong.

    Attributes:
        ranks: rank of the right answer, from 1, by task and test input; `UNRANKED` if no candidate is right.
        answered: whether the method answered, by task.
    """

    ranks: list[list[int]]
    answered: list[bool]

    def is_solved(self, attempts: int = ATTEMPTS) -> list[bool]:
        """Whether every test input is right within so many attempts, by task."""
        return [max(ranks) <= attempts for ranks in self.ranks]

    def scores(self) -> Floats:
        """Returns (tasks,) fractions of test inputs that are right within two attempts (ARC Prize)."""
        return np.array([sum(rank <= ATTEMPTS for rank in ranks) / len(ranks) for ranks in self.ranks])

    def pass_at(self) -> dict[str, float]:
        """Returns the share of tasks that are solved within k attempts, by k."""
        return {str(k): float(np.mean(self.is_solved(k))) for k in PASS_AT}


def _find_rank(grids: list[str], text: str) -> int:
    try:
        return grids.index(text) + 1
    except ValueError:
        return UNRANKED


def rank_answers(records: Records, answer_key: AnswerKey) -> AnswerRanks:
    """Ranks the right answer to every test input among a method's candidates.

    Args:
        records: the method's answers by task id; those to other tasks are ignored.
        answer_key: the tasks to score, with their right answers.
    """
    ranks, answered = [], []
    for task, texts in zip(answer_key.tasks, answer_key.texts, strict=True):
        record = records.get(task.task_id)
        answered.append(record is not None)
        candidates = [] if record is None else [answers["grids"] for answers in record["candidates"]]
        task_ranks = [_find_rank(grids, text) for grids, text in zip(candidates, texts, strict=False)]
        ranks.append(task_ranks + [UNRANKED] * (len(texts) - len(task_ranks)))
    return AnswerRanks(ranks, answered)
