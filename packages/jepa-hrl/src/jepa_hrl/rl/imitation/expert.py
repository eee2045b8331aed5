"""An expert for imitation: it knows a program of a problem, and says what is right wherever an agent has got to.

Grids are given by their ids in a `TransitionCache`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.environment.transition_cache import REFUSED, TransitionCache, grid_hash


class _Position(NamedTuple):
    """A position in the execution of a program.

    Attributes:
        trace: actions of the program.
        path: grids of all demonstrations before the first action, between the actions, and after the last.
        steps: actions done, which is the index of the current grids in `path`.
    """

    trace: tuple[int, ...]
    path: list[list[int]]
    steps: int


class ProgramExpert:
    """Follows one agent through a problem with a known program, and tells the right actions.

    The expert remembers a position for every action that the agent has done and not undone. The position is None where
    the rest of the program no longer leads to the goals: the last action should be undone there.
    """

    def __init__(self, problem: Problem, cache: TransitionCache) -> None:
        """Starts at the problem's inputs."""
        self._cache = cache
        inputs, self._goals = cache.intern_problem(problem)
        path = execute_trace(cache, inputs, problem.trace, self._goals)
        assert path is not None, "a problem's trace solves it"
        self._positions: list[_Position | None] = [_Position(problem.trace, path, 0)]

    def actions(self, max_actions: int = 1) -> tuple[int, ...]:
        """Returns the next right actions, at most so many; none where the last action should be undone."""
        position = self._positions[-1]
        if position is None:
            return ()
        actions: list[int] = []
        index = position.steps
        while len(actions) < max_actions and index < len(position.trace):
            action, index = longest_shortcut(position.trace, position.path, index, self._cache)
            actions.append(action)
        return tuple(actions)

    def observe(self, action: int, grid_ids: Sequence[int]) -> None:
        """Takes note of an action of the agent.

        Args:
            action: index of the action.
            grid_ids: K grids after the action.
        """
        last = next(position for position in reversed(self._positions) if position is not None)
        self._positions.append(self._advance(last, list(grid_ids)) or self._replan(last, action, grid_ids))

    def observe_undo(self) -> None:
        """Takes note that the agent undid its last action."""
        self._positions.pop()

    def _advance(self, position: _Position, grid_ids: list[int]) -> _Position | None:
        """Returns the latest later position on the same path with these grids, None if there is none."""
        later = [index for index in range(position.steps + 1, len(position.path)) if position.path[index] == grid_ids]
        return position._replace(steps=later[-1]) if later else None

    def _replan(self, position: _Position, action: int, grid_ids: Sequence[int]) -> _Position | None:
        """Returns a position on a new path from these grids; None if no path is known.

        The rest of the program may lead to the goals from there too, or all of the rest except the action just done.
        """
        rest = position.trace[position.steps :]
        without_action = list(rest)
        if action in rest:
            without_action.remove(action)
        for trace in dict.fromkeys((tuple(without_action), rest)):
            path = execute_trace(self._cache, grid_ids, trace, self._goals)
            if path is not None:
                return _Position(trace, path, 0)
        return None


def execute_trace(
    cache: TransitionCache, grid_ids: Sequence[int], trace: Sequence[int], goal_ids: Sequence[int]
) -> list[list[int]] | None:
    """Applies the actions of a trace one after another.

    Args:
        cache: transitions of grids.
        grid_ids: K grids to start from.
        trace: indices of actions.
        goal_ids: K goals.
    Returns:
        The grids before, between and after the actions; None if an action is refused or the last grids are not the
        goals.
    """
    path = [list(grid_ids)]
    for action in trace:
        if action == cache.actions.recolor:
            table = cache.color_table(path[-1], goal_ids)
            after = [REFUSED] if table is None else [cache.recolor(grid_id, table) for grid_id in path[-1]]
        else:
            after = [cache.outcome(grid_id, action) for grid_id in path[-1]]
        if REFUSED in after:
            return None
        path.append(after)
    return path if path[-1] == list(goal_ids) else None


def longest_shortcut(
    trace: Sequence[int], path: Sequence[Sequence[int]], index: int, cache: TransitionCache
) -> tuple[int, int]:
    """Returns the single action that leads farthest along a program's path.

    Programs drawn at random make detours, which an agent should not learn to imitate.

    Args:
        trace: actions of the program.
        path: the grids before, between and after them; see `execute_trace`.
        index: current position in `path`.
        cache: transitions of grids.
    Returns:
        The action, and the index in `path` that it leads to; the program's own next action if there is no shortcut.
    """
    changes, result_hashes = cache.legal_actions(path[index][:1])
    for later in range(len(path) - 1, index + 1, -1):
        target_hash = grid_hash(cache.grids[path[later][0]])
        for action in np.flatnonzero(changes[0] & (result_hashes[0] == target_hash)).tolist():
            if [cache.outcome(grid_id, action) for grid_id in path[index]] == list(path[later]):
                return action, later
        is_last = later == len(path) - 1
        if is_last and cache.actions.recolor is not None and cache.color_table(path[index], path[later]):
            return cache.actions.recolor, later
    return trace[index], index + 1
