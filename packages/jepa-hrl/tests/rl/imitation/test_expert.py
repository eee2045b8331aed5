"""The expert that knows a program of each problem."""

import numpy as np

from jepa_hrl.dsl.types import Array
from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.environment.episodes import BatchedEpisodes
from jepa_hrl.rl.environment.problems import Problem, steps_to_goal
from jepa_hrl.rl.environment.transition_cache import TransitionCache
from jepa_hrl.rl.imitation.expert import ProgramExpert, execute_trace, longest_shortcut
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa


def test_detours_of_a_program_are_not_imitated(jepa: LoadedProgramJepa, transitions: TransitionCache) -> None:
    """Rotations and reflections, several of which often equal a single one; compared to trying every action."""
    rng, actions, shorter = np.random.default_rng(0), jepa.actions, 0
    turns = [actions.indices[name] for name in ("flip_horizontal", "flip_vertical", "transpose", "rotate_90")]

    def apply(action: int, grids: tuple[Array, ...]) -> tuple[Array, ...]:
        outcomes = [actions.outcome(action, grid) for grid in grids]
        return tuple(grid for grid in outcomes if grid is not None)

    def same(ones: tuple[Array, ...], others: tuple[Array, ...]) -> bool:
        return len(ones) == len(others) and all(map(np.array_equal, ones, others))

    for _ in range(40):
        path = [tuple(rng.integers(10, size=(3, 4)).astype(np.uint8) for _ in range(3))]
        trace = tuple(int(n) for n in rng.choice(turns, 3))
        for action in trace:
            path.append(apply(action, path[-1]))
        problem = Problem("made", path[0], path[3], 3, trace)
        if steps_to_goal(trace, problem, actions) != 3:
            continue  # it returns to a grid that it has visited
        inputs, goals = transitions.intern_problem(problem)
        ids, index, steps = execute_trace(transitions, inputs, trace, goals), 0, 0
        assert ids is not None and all(
            same(tuple(transitions.grids[n] for n in row), grids) for row, grids in zip(ids, path, strict=True)
        )
        while index < 3:
            action, after = longest_shortcut(trace, ids, index, transitions)
            assert same(apply(action, path[index]), path[after])
            others = [apply(n, path[index]) for n in range(len(actions)) if n != actions.recolor]
            assert after == max(later for later in range(index + 1, 4) if any(same(o, path[later]) for o in others))
            index, steps = after, steps + 1
        shorter += steps < 3
    assert shorter > 10


def test_an_expert_leads_to_the_goals_from_wherever_the_agent_went(
    transitions: TransitionCache, problems: list[Problem]
) -> None:
    traced = [problem for problem in problems if problem.trace]
    config = EnvConfig(dynamics="grounded", undo=True, max_steps=40)
    episodes = BatchedEpisodes(transitions, traced, config, len(traced))
    episodes.reset(range(len(traced)), np.arange(len(traced)))
    experts = [ProgramExpert(problem, transitions) for problem in traced]
    generator, running, undone = np.random.default_rng(0), np.ones(len(traced), dtype=bool), 0
    barred = 0
    for step in range(40):
        choices = np.full(len(traced), episodes.stop)
        for row in np.flatnonzero(running):
            actions = experts[row].actions()
            choices[row] = actions[0] if actions else episodes.undo
            if not episodes.mask[row, choices[row]]:  # visited by a stray before, and undone
                running[row], barred = False, barred + 1
                continue
            others = np.flatnonzero(episodes.mask[row, :-2])
            if step < 5 and len(others) and generator.random() < 0.5:
                choices[row] = generator.choice(others)
        result = episodes.step(choices)
        for row in np.flatnonzero(running & ~result.terminated & ~result.refused):
            if choices[row] == episodes.undo:
                experts[row].observe_undo()
                undone += 1
            else:
                experts[row].observe(int(choices[row]), episodes.grids[row].tolist())
        running &= ~(result.terminated & result.grounded)
    assert not running.any() and undone > len(traced) / 4 and barred < len(traced) / 20


def test_an_expert_goes_on_where_an_action_was_only_taken_earlier(transitions: TransitionCache) -> None:
    flip, keep, tile = (
        transitions.actions.indices[name] for name in ("flip_horizontal", "keep_color_3", "tile_across")
    )
    grid = np.array([[1, 0, 2], [0, 0, 3]], dtype=np.uint8)
    start = transitions.intern(grid)
    goal = transitions.outcome(transitions.outcome(start, flip), keep)
    expert = ProgramExpert(Problem("made", (grid,), (transitions.grids[goal],), 2, (flip, keep)), transitions)
    assert (expert.actions(), expert.actions(2)) == ((flip,), (flip, keep))
    expert.observe(keep, [transitions.outcome(start, keep)])
    assert expert.actions(2) == (flip,)  # the two may change places
    expert.observe_undo()
    expert.observe(tile, [transitions.outcome(start, tile)])
    assert expert.actions(2) == ()
    expert.observe_undo()
    assert expert.actions() == (flip,)
