"""Scores of searches: the result of one task, and the figures of a set of tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arc_core.scoring import score_tests
from arc_core.task import Task
from jepa_hrl.search.engine import Outcome

ATTEMPTS = 2
_RESAMPLES = 2000


@dataclass(frozen=True)
class Result:
    """The scored outcome of one task's search.

    Attributes:
        task_id: the task.
        solved: whether the first two solutions answer every test.
        fits: whether a program reproduces all demonstrations.
        program: the solution that answers the tests, else the shortest one; empty if there is none.
        found_at: number of programs tested when that program was found; 0 if there is none.
        tested, refused, novel, ended, seconds: see `Outcome`.
    """

    task_id: str
    solved: bool
    fits: bool
    program: str
    found_at: int
    tested: int
    refused: int
    novel: int
    seconds: float
    ended: str


def score_outcome(task: Task, outcome: Outcome) -> Result:
    """Scores a search's outcome against the task's test outputs."""
    attempts = outcome.solutions[:ATTEMPTS]
    ranked = [[solution.answers[test] for solution in attempts] for test in range(len(task.test))]
    solved = bool(attempts) and all(score_tests(ranked, task, ATTEMPTS))
    correct = [
        solution for solution in attempts
        if all(np.array_equal(answer, pair.output) for answer, pair in zip(solution.answers, task.test, strict=True))  # type: ignore[arg-type]
    ]  # fmt: skip
    reported = (correct or attempts)[0] if attempts else None
    program, found_at = (str(reported.program), reported.tested) if reported else ("", 0)
    return Result(
        task.task_id, solved, bool(attempts), program, found_at, outcome.tested, outcome.refused, outcome.novel,
        round(outcome.seconds, 3), outcome.ended,
    )  # fmt: skip


def summarize(results: Sequence[Result], programs: Mapping[str, str]) -> dict[str, object]:
    """Computes the figures of a set of tasks: rates, a bootstrap interval of the success rate, and counts of programs.

    Args:
        results: one for each task.
        programs: the generator's own programs of synthetic tasks, by task; other solutions count as novel.
    """
    solved = np.array([result.solved for result in results], dtype=float)
    rng = np.random.default_rng(0)
    means = rng.choice(solved, (_RESAMPLES, len(solved))).mean(axis=1)
    tested, seconds = sum(r.tested for r in results), sum(r.seconds for r in results)
    novel = {r.program for r in results if r.solved} - set(programs.values())
    return {
        "success_rate": round(float(solved.mean()), 4),
        "interval_95": [round(float(bound), 4) for bound in np.quantile(means, [0.025, 0.975])],
        "solved_count": int(solved.sum()),
        "fits_but_wrong": sum(r.fits and not r.solved for r in results),
        "avg_programs_tested": round(tested / len(results), 1),
        "avg_programs_until_found": round(
            sum(r.found_at for r in results if r.solved) / max(sum(r.solved for r in results), 1), 1
        ),
        "avg_programs_refused": round(sum(r.refused for r in results) / len(results), 1),
        "programs_per_second": round(tested / max(seconds, 1e-9)),
        "share_of_new_values": round(sum(r.novel for r in results) / max(tested, 1), 4),
        "novelty_rate": round(len(novel) / len(results), 4),
        "seconds": round(seconds, 1), "longest_seconds": max(r.seconds for r in results),
        "ended": {name: sum(r.ended == name for r in results) for name in sorted({r.ended for r in results})},
    }  # fmt: skip


def success_by_phase(results: Sequence[Result], phases: Mapping[str, str]) -> dict[str, float]:
    """Computes the success rate of each phase; `phases` gives tasks' phases, and tasks without one are left out."""
    names = sorted({phases[r.task_id] for r in results if r.task_id in phases})
    return {
        name: round(float(np.mean([r.solved for r in results if phases.get(r.task_id) == name])), 4) for name in names
    }
