"""Search of a task's program with a trained policy as guide, on the real grids of all demonstrations.

States are what programs make of all inputs at once; they are taken up by the policy's probability of the way to them.
Every action that changes the first demonstration is run on it when its state is taken up, and counted; the likeliest,
and those that give the first goal, are run on the others. An answer's program fits every demonstration.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
import torch

from arc_core.task import Task
from jepa_hrl.dsl.program import INPUT, Expression, evaluate
from jepa_hrl.rl.environment.episodes import Observation
from jepa_hrl.rl.environment.transition_cache import REFUSED
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.evaluation import make_batch
from jepa_hrl.search.engine import Outcome, Solution
from jepa_hrl.world_model.actions import infer_color_table

_TOGETHER = 8  # states that the policy looks at in one pass


@dataclass(frozen=True)
class GuidedLimits:
    """What a search may spend.

    Attributes:
        seconds: for a task.
        programs: run on at least one demonstration.
        width: actions of a state that are run on all demonstrations, likeliest first.
        depth: actions of a program.
        patience: once a program fits, the search ends when it has run so many times as many.
    """

    seconds: float = 5.0
    programs: int = 15_000
    width: int = 12
    depth: int = 8
    patience: float = 2.0


@dataclass(frozen=True)
class _State:
    grids: tuple[int, ...]  # of all demonstrations
    program: Expression
    depth: int
    log_probability: float


class GuidedSearch:
    """One task's search."""

    def __init__(self, agent: Agent, task: Task, demonstrations: int, max_steps: int, limits: GuidedLimits) -> None:
        """Begins with the inputs.

        Args:
            demonstrations: K, that the policy was trained to see.
            max_steps: of the episodes that it was trained on.
        """
        self._began = time.perf_counter()
        self._agent, self._task, self._limits, self._max_steps = agent, task, limits, max_steps
        cache = self._cache = agent.cache
        cache.forget()
        outputs = [pair.output for pair in task.train if pair.output is not None]
        self._goals = tuple(cache.intern(output) for output in outputs)
        shown = [n % len(task.train) for n in range(demonstrations)]
        self._shown = np.array(shown, dtype=np.int64)
        start = _State(tuple(cache.intern(pair.input) for pair in task.train), INPUT, 0, 0.0)
        self._heap: list[tuple[float, int, _State]] = [(0.0, 0, start)]
        self._seen = {start.grids}
        self._pushed = 0
        self._found: dict[tuple[bytes, ...], Solution] = {}
        self._first = 0  # programs run until the first solution
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Searches until something ends it."""
        outcome, limits = self.outcome, self._limits
        if self._heap[0][2].grids == self._goals:
            self._offer(INPUT)
        together = 1
        while self._heap:
            if outcome.tested >= limits.programs:
                outcome.ended = "programs"
                break
            if time.perf_counter() - self._began >= limits.seconds:
                outcome.ended = "seconds"
                break
            if self._first and outcome.tested > limits.patience * self._first:
                outcome.ended = "solved"
                break
            self._expand([heappop(self._heap)[2] for _ in range(min(together, len(self._heap)))])
            together = _TOGETHER
        outcome.solutions = sorted(self._found.values(), key=lambda solution: solution.cost)
        outcome.seconds = time.perf_counter() - self._began
        return outcome

    @torch.no_grad()
    def _expand(self, states: Sequence[_State]) -> None:
        cache, actions = self._cache, self._cache.actions
        shown = np.array([state.grids for state in states], dtype=np.int64)[:, self._shown]
        goals = np.broadcast_to(np.array(self._goals, dtype=np.int64)[self._shown], shown.shape)
        # No state's last action is taken back: others are taken up instead.
        mask = np.zeros((len(states), len(actions) + 1 + self._agent.undo), dtype=np.int8)
        tables: list[dict[int, int] | None] = []
        for row, state in enumerate(states):
            mask[row, : len(actions)] = cache.legal_actions([state.grids[0]])[0][0]
            self.outcome.tested += len(actions)
            table = self._table(state)
            tables.append(table)
            if actions.recolor is not None:
                mask[row, actions.recolor] = table is not None
        mask[~mask[:, :-1].any(axis=1), -1] = 1  # a distribution needs something
        observation: Observation = {
            "current": cache.latents(shown), "goal": cache.latents(goals),
            "step": np.array([[min(state.depth / self._max_steps, 1.0)] for state in states], dtype=np.float32),
            "action_mask": mask,
        }  # fmt: skip
        batch = make_batch(observation, self._agent.lookahead, cache.device)
        scores = self._agent.policy(batch)[0].cpu().numpy()
        for row, state in enumerate(states):
            if tables[row] is not None:
                self._offer(actions.actions[actions.recolor or 0].extend(state.program, tables[row]))
            self._follow(state, scores[row], np.flatnonzero(mask[row, :-1]))

    def _table(self, state: _State) -> dict[int, int] | None:
        grids = [self._cache.grids[number] for number in state.grids]
        return infer_color_table(grids, [self._cache.grids[number] for number in self._goals])

    def _follow(self, state: _State, scores: np.ndarray, possible: np.ndarray) -> None:
        """Runs the likeliest actions of a state on all demonstrations, and those that give the first goal."""
        cache, actions, limits = self._cache, self._cache.actions, self._limits
        likeliest = possible[np.argsort(-scores[possible])]
        reaching = [action for action in likeliest.tolist() if self._reaches(state.grids[0], action)]
        for action in dict.fromkeys([*reaching, *likeliest[: limits.width].tolist()]):
            if action == actions.recolor:
                continue
            after = tuple(cache.outcome(number, action) for number in state.grids)
            if REFUSED in after or after in self._seen:
                continue
            self._seen.add(after)
            self.outcome.novel += 1
            program = actions.actions[action].extend(state.program)
            if after == self._goals:
                self._offer(program)
                continue
            if state.depth + 1 < limits.depth:
                score = state.log_probability + float(scores[action])
                self._pushed += 1
                made = _State(after, program, state.depth + 1, score)
                heappush(self._heap, (-score, self._pushed, made))

    def _reaches(self, grid: int, action: int) -> bool:
        return action != self._cache.actions.recolor and self._cache.outcome(grid, action) == self._goals[0]

    def _offer(self, program: Expression) -> None:
        """Takes a program that gives all goals, if it answers the tests too."""
        answers = [evaluate(program, pair.input) for pair in self._task.test]
        grids = tuple(np.ascontiguousarray(answer) for answer in answers if isinstance(answer, np.ndarray))
        if len(grids) < len(answers):
            return
        tested = self.outcome.tested
        self._first = self._first or max(tested, 1)
        key = tuple(bytes(grid.shape) + grid.tobytes() for grid in grids)
        if key not in self._found or program.cost < self._found[key].cost:
            self._found[key] = Solution(program, program.cost, grids, tested)
