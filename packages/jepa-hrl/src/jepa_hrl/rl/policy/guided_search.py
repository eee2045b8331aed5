"""Best-first search for a task's program, guided by a trained policy, on the real grids of all demonstrations.

A state is what a program makes of all the task's inputs. States are expanded in order of the policy's probability of
their program. Expanding a state runs every action that changes the first demonstration's grid on that grid, and counts
it. The likeliest actions, and those that give the first goal, are then run on the other demonstrations too. Every
program that is returned fits all demonstrations.
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

_STATES_AT_ONCE = 8  # that the policy evaluates in one pass


@dataclass(frozen=True)
class GuidedLimits:
    """What a search may spend.

    Attributes:
        seconds: limit for a task.
        programs: limit on the programs that are run on at least one demonstration.
        width: actions of a state that are run on all demonstrations, likeliest first.
        depth: maximal actions of a program.
        patience: once a program fits, the search goes on until it has run this many times as many programs.
    """

    seconds: float = 5.0
    programs: int = 15_000
    width: int = 12
    depth: int = 8
    patience: float = 2.0


@dataclass(frozen=True)
class _State:
    grid_ids: tuple[int, ...]  # of all demonstrations
    program: Expression
    depth: int  # actions of the program
    log_probability: float


class GuidedSearch:
    """The search for one task's program; used once."""

    def __init__(self, agent: Agent, task: Task, demonstrations: int, max_steps: int, limits: GuidedLimits) -> None:
        """Starts from the task's inputs.

        Args:
            agent: policy and world model.
            task: its tests' answers are not looked at.
            demonstrations: K, which the policy was trained with; it sees the first K of the task.
            max_steps: length of the episodes that the policy was trained on.
            limits: what the search may spend.
        """
        self._start_time = time.perf_counter()
        self._agent, self._task, self._limits, self._max_steps = agent, task, limits, max_steps
        cache = self._cache = agent.cache
        cache.forget()
        outputs = [pair.output for pair in task.train if pair.output is not None]
        self._goals = tuple(cache.intern(output) for output in outputs)
        visible = [n % len(task.train) for n in range(demonstrations)]
        self._visible = np.array(visible, dtype=np.int64)
        start = _State(tuple(cache.intern(pair.input) for pair in task.train), INPUT, 0, 0.0)
        self._heap: list[tuple[float, int, _State]] = [(0.0, 0, start)]
        self._visited = {start.grid_ids}
        self._pushed = 0
        self._solutions: dict[tuple[bytes, ...], Solution] = {}
        self._programs_to_solution = 0  # programs run until the first, 0 before it
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Searches until a limit is reached or no state is left."""
        outcome, limits = self.outcome, self._limits
        if self._heap[0][2].grid_ids == self._goals:
            self._add_solution(INPUT)
        at_once = 1
        while self._heap:
            if outcome.tested >= limits.programs:
                outcome.ended = "programs"
                break
            if time.perf_counter() - self._start_time >= limits.seconds:
                outcome.ended = "seconds"
                break
            if self._programs_to_solution and outcome.tested > limits.patience * self._programs_to_solution:
                outcome.ended = "solved"
                break
            self._expand([heappop(self._heap)[2] for _ in range(min(at_once, len(self._heap)))])
            at_once = _STATES_AT_ONCE
        outcome.solutions = sorted(self._solutions.values(), key=lambda solution: solution.cost)
        outcome.seconds = time.perf_counter() - self._start_time
        return outcome

    @torch.no_grad()
    def _expand(self, states: Sequence[_State]) -> None:
        """Evaluates the policy on some states, and adds their successors to the heap."""
        cache, actions = self._cache, self._cache.actions
        visible = np.array([state.grid_ids for state in states], dtype=np.int64)[:, self._visible]
        goals = np.broadcast_to(np.array(self._goals, dtype=np.int64)[self._visible], visible.shape)
        # Undoing is masked: the search takes up another state instead.
        mask = np.zeros((len(states), len(actions) + 1 + self._agent.undo), dtype=np.int8)
        tables: list[dict[int, int] | None] = []
        mask[:, : len(actions)] = cache.legal_actions([state.grid_ids[0] for state in states])[0]
        for row, state in enumerate(states):
            self.outcome.tested += len(actions)
            table = self._color_table(state)
            tables.append(table)
            if actions.recolor is not None:
                mask[row, actions.recolor] = table is not None
        mask[~mask[:, :-1].any(axis=1), -1] = 1  # a distribution needs at least one choice
        observation: Observation = {
            "current": cache.latents(visible), "goal": cache.latents(goals),
            "step": np.array([[min(state.depth / self._max_steps, 1.0)] for state in states], dtype=np.float32),
            "action_mask": mask,
        }  # fmt: skip
        batch = make_batch(observation, self._agent.lookahead, cache.device)
        scores = self._agent.policy(batch)[0].cpu().numpy()
        for row, state in enumerate(states):
            if tables[row] is not None:
                self._add_solution(actions.actions[actions.recolor or 0].extend(state.program, tables[row]))
            self._push_successors(state, scores[row], np.flatnonzero(mask[row, :-1]))

    def _color_table(self, state: _State) -> dict[int, int] | None:
        grids = [self._cache.grids[grid_id] for grid_id in state.grid_ids]
        return infer_color_table(grids, [self._cache.grids[grid_id] for grid_id in self._goals])

    def _push_successors(self, state: _State, scores: np.ndarray, allowed: np.ndarray) -> None:
        """Runs the likeliest actions of a state, and those that give the first goal, on all demonstrations.

        Args:
            state: where the actions start.
            scores: (C,) log-probabilities of choices.
            allowed: indices of the actions that the mask allows.
        """
        cache, actions, limits = self._cache, self._cache.actions, self._limits
        likeliest = allowed[np.argsort(-scores[allowed])]
        reaching = [action for action in likeliest.tolist() if self._reaches_first_goal(state.grid_ids[0], action)]
        for action in dict.fromkeys([*reaching, *likeliest[: limits.width].tolist()]):
            if action == actions.recolor:
                continue
            after = tuple(cache.outcome(grid_id, action) for grid_id in state.grid_ids)
            if REFUSED in after or after in self._visited:
                continue
            self._visited.add(after)
            self.outcome.novel += 1
            program = actions.actions[action].extend(state.program)
            if after == self._goals:
                self._add_solution(program)
                continue
            if state.depth + 1 < limits.depth:
                score = state.log_probability + float(scores[action])
                self._pushed += 1
                heappush(self._heap, (-score, self._pushed, _State(after, program, state.depth + 1, score)))

    def _reaches_first_goal(self, grid_id: int, action: int) -> bool:
        return action != self._cache.actions.recolor and self._cache.outcome(grid_id, action) == self._goals[0]

    def _add_solution(self, program: Expression) -> None:
        """Adds a program that gives all goals to the solutions, if it runs on the tests too."""
        answers = [evaluate(program, pair.input) for pair in self._task.test]
        grids = tuple(np.ascontiguousarray(answer) for answer in answers if isinstance(answer, np.ndarray))
        if len(grids) < len(answers):
            return
        tested = self.outcome.tested
        self._programs_to_solution = self._programs_to_solution or max(tested, 1)
        key = tuple(bytes(grid.shape) + grid.tobytes() for grid in grids)
        if key not in self._solutions or program.cost < self._solutions[key].cost:
            self._solutions[key] = Solution(program, program.cost, grids, tested)
