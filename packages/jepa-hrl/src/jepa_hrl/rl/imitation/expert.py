"""What is right to do, for one who knows a program of a problem, wherever a pupil has got to."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.environment.transition_cache import REFUSED, TransitionCache, grid_hash


class _Place(NamedTuple):
    """On the way of a program.

    Attributes:
        trace: its actions.
        way: the grids, by number, before, between and after them.
        at: actions done.
    """

    trace: tuple[int, ...]
    way: list[list[int]]
    at: int


class ProgramExpert:
    """Follows one pupil through a problem whose program is known."""

    def __init__(self, problem: Problem, cache: TransitionCache) -> None:
        """At the problem's inputs."""
        self._cache = cache
        inputs, self._goals = cache.intern_problem(problem)
        way = execute_trace(cache, inputs, problem.trace, self._goals)
        assert way is not None, "a problem's trace solves it"
        self._places: list[_Place | None] = [_Place(problem.trace, way, 0)]

    def actions(self, most: int = 1) -> tuple[int, ...]:
        """The next actions that are right, so many at the most; none where the last one had better be taken back."""
        place = self._places[-1]
        if place is None:
            return ()
        actions: list[int] = []
        at = place.at
        while len(actions) < most and at < len(place.trace):
            action, at = longest_shortcut(place.trace, place.way, at, self._cache)
            actions.append(action)
        return tuple(actions)

    def observe(self, action: int, numbers: Sequence[int]) -> None:
        """The pupil took an action.

        Args:
            numbers: of the grids that it made of the demonstrations'.
        """
        known = next(place for place in reversed(self._places) if place is not None)
        self._places.append(self._on_way(known, list(numbers)) or self._another(known, action, numbers))

    def observe_undo(self) -> None:
        """The pupil took its last action back."""
        self._places.pop()

    def _on_way(self, place: _Place, numbers: list[int]) -> _Place | None:
        """Farther along the same way."""
        later = [at for at in range(place.at + 1, len(place.way)) if place.way[at] == numbers]
        return place._replace(at=later[-1]) if later else None

    def _another(self, place: _Place, action: int, numbers: Sequence[int]) -> _Place | None:
        """On a way of its own if the rest of the program gives the goals from there, or all of it but this action."""
        rest = place.trace[place.at :]
        without = list(rest)
        if action in rest:
            without.remove(action)
        for trace in dict.fromkeys((tuple(without), rest)):
            way = execute_trace(self._cache, numbers, trace, self._goals)
            if way is not None:
                return _Place(trace, way, 0)
        return None


def execute_trace(
    cache: TransitionCache, numbers: Sequence[int], trace: Sequence[int], goals: Sequence[int]
) -> list[list[int]] | None:
    """The grids, by number, before, between and after actions that lead from some to others; None if they do not."""
    way = [list(numbers)]
    for action in trace:
        if action == cache.actions.recolor:
            table = cache.color_table(way[-1], goals)
            after = [REFUSED] if table is None else [cache.recolor(number, table) for number in way[-1]]
        else:
            after = [cache.outcome(number, action) for number in way[-1]]
        if REFUSED in after:
            return None
        way.append(after)
    return way if way[-1] == list(goals) else None


def longest_shortcut(
    trace: Sequence[int], way: Sequence[Sequence[int]], place: int, cache: TransitionCache
) -> tuple[int, int]:
    """The action that leads farthest along a program's way, and how far: a program drawn at random makes detours."""
    changes, hashes = cache.legal_actions(way[place][:1])
    for later in range(len(way) - 1, place + 1, -1):
        for action in np.flatnonzero(changes[0] & (hashes[0] == grid_hash(cache.grids[way[later][0]]))).tolist():
            if [cache.outcome(number, action) for number in way[place]] == list(way[later]):
                return action, later
        if later == len(way) - 1 and cache.actions.recolor is not None and cache.color_table(way[place], way[later]):
            return cache.actions.recolor, later
    return trace[place], place + 1
