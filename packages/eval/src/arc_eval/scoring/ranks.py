"""Where the right answer stands among a method's candidates, and the figures that follow from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arc_core.grid import grid_to_text
from arc_core.scoring import ATTEMPTS
from arc_core.task import Task
from arc_eval.scoring.statistics import Floats
from arc_eval.storage.records import Lines

PASSES = (1, 2, 3, 5, 10, 20, 50, 100)
NEVER = 1_000_000  # the rank of an answer that is not among the candidates


@dataclass(frozen=True)
class Truths:
    """Tasks to be scored on.

    Attributes:
        tasks: with their test outputs.
    """

    tasks: Sequence[Task]

    @cached_property
    def texts(self) -> list[list[str]]:
        """By task and test input the right answer as text."""
        return [[grid_to_text(pair.output) for pair in task.test if pair.output is not None] for task in self.tasks]


@dataclass(frozen=True)
class Ranked:
    """A method's answers to the tasks, judged; a task that it did not answer counts as wrong.

    Attributes:
        ranks: by task and test input, at which candidate the right answer stands, from 1; `NEVER` if nowhere.
        answered: which tasks it answered.
    """

    ranks: list[list[int]]
    answered: list[bool]

    def solved(self, attempts: int = ATTEMPTS) -> list[bool]:
        """Which tasks have every test input right within so many attempts."""
        return [max(ranks) <= attempts for ranks in self.ranks]

    def scores(self) -> Floats:
        """(tasks,) fractions of test inputs right within two attempts (ARC Prize)."""
        return np.array([sum(rank <= ATTEMPTS for rank in ranks) / len(ranks) for ranks in self.ranks])

    def pass_at(self) -> dict[str, float]:
        """Share of tasks solved within k attempts, by k."""
        return {str(k): float(np.mean(self.solved(k))) for k in PASSES}


def _rank(grids: list[str], text: str) -> int:
    try:
        return grids.index(text) + 1
    except ValueError:
        return NEVER


def rank_answers(lines: Lines, truths: Truths) -> Ranked:
    """Judges stored answers.

    Args:
        lines: by task id.
    """
    ranks, answered = [], []
    for task, texts in zip(truths.tasks, truths.texts, strict=True):
        line = lines.get(task.task_id)
        answered.append(line is not None)
        tests = [] if line is None else [answers["grids"] for answers in line["candidates"]]
        found = [_rank(grids, text) for grids, text in zip(tests, texts, strict=False)]
        ranks.append(found + [NEVER] * (len(texts) - len(found)))
    return Ranked(ranks, answered)
