"""The search guided by a policy."""

from typing import Any

import numpy as np

from arc_core.task import task_from_json
from jepa_hrl.dsl.program import evaluate
from jepa_hrl.rl.config import PolicyConfig
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.guided_search import GuidedLimits, GuidedSearch
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa


def test_guided_search_answers_with_programs_that_fit(jepa: LoadedProgramJepa, rows: list[dict[str, Any]]) -> None:
    agent, solved = Agent(jepa, PolicyConfig(16), 0), 0
    for row in rows[:12]:
        task = task_from_json({"train": row["train"], "test": row["test"]}, row["task_id"])
        limits = GuidedLimits(seconds=float("inf"), programs=3000)  # whatever the machine's speed
        outcome = GuidedSearch(agent, task.without_answers(), 3, 8, limits).run()
        assert outcome.tested <= 3000 + 8 * len(jepa.actions)
        for solution in outcome.solutions:
            for pair in task.train:
                assert np.array_equal(evaluate(solution.program, pair.input), pair.output)  # type: ignore[arg-type]
        assert len({answer.tobytes() for s in outcome.solutions for answer in s.answers}) == len(outcome.solutions)
        correct = [np.array_equal(s.answers[0], task.test[0].output) for s in outcome.solutions]  # type: ignore[arg-type]
        solved += any(correct)
    assert solved >= 11
