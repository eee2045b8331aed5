"""Rollouts of a policy."""

import json
from dataclasses import asdict
from pathlib import Path

from jepa_hrl.rl.config import EnvConfig, PolicyConfig
from jepa_hrl.rl.environment.problems import Problem, steps_to_goal
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.rollouts import Header, read_traces, roll_out
from jepa_hrl.world_model.actions import ActionSet
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

GROUNDED = EnvConfig(dynamics="grounded", max_steps=5)


def test_an_episode_depends_on_its_index_and_the_seed_alone(jepa: LoadedProgramJepa, problems: list[Problem]) -> None:
    agent = Agent(jepa, PolicyConfig(16), 0)
    traces = roll_out(agent, problems[:10], GROUNDED, 0, 3, False)
    again = roll_out(agent, problems[4:10], GROUNDED, 4, 3, False)
    assert [trace.actions for trace in again] == [trace.actions for trace in traces[4:]]
    assert traces != roll_out(agent, problems[:10], GROUNDED, 0, 4, False)


def test_a_trace_is_grounded_exactly_if_its_actions_reach_the_goals(
    jepa: LoadedProgramJepa, problems: list[Problem], actions: ActionSet
) -> None:
    traces = roll_out(Agent(jepa, PolicyConfig(16), 0), problems, GROUNDED, 0, 3, False)
    assert {trace.grounded for trace in traces} == {True, False}
    for trace, problem in zip(traces, problems, strict=True):
        indices = [actions.indices[name] for name in trace.actions]
        assert trace.grounded == (steps_to_goal(indices, problem, actions) == len(indices) > 0)


def test_rollouts_are_read_back(jepa: LoadedProgramJepa, problems: list[Problem], tmp_path: Path) -> None:
    traces = roll_out(Agent(jepa, PolicyConfig(16), 0), problems[:10], GROUNDED, 0, 3, False)
    header = Header("none", "none", "grounded", 0, False, jepa.config.actions)
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(asdict(record)) + "\n" for record in (header, *traces)))
    assert read_traces(path) == (header, traces)
