"""Many episodes side by side: what both the environment and its vectorised form are made of.

N episodes, K demonstrations, D latent channels, A actions, O options: sequences of actions chosen as one. Choices are
numbered actions first, then options, then to take back the last action where the environment allows it; the last is to
stop.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.environment.transition_cache import REFUSED, Flags, Floats, Integers, TransitionCache, grid_hash

LATENT_BOUND = 1e4  # of an observation's channels, which stay far below

Options = Sequence[tuple[int, ...]]
Observation = dict[str, npt.NDArray[np.float32] | npt.NDArray[np.int8]]


@dataclass(frozen=True)
class StepResult:
    """What a step brought, (N,) each.

    Attributes:
        reward: float32.
        terminated: reached the goal, as far as the dynamics tell, or stopped.
        truncated: out of steps.
        success: what the bonus is paid for: near in latents where the model tells, equal grids otherwise.
        grounded: the real grids equal the goals.
        distance: of the latents from the goals', mean over demonstrations.
        refused: an action was not possible on the real grids and changed nothing.
        duration: actions done, 0 for stopping; int64.
    """

    reward: Floats
    terminated: Flags
    truncated: Flags
    success: Flags
    grounded: Flags
    distance: Floats
    refused: Flags
    duration: Integers


class Turn(NamedTuple):
    """One step of `Episodes.play`, (N,) each.

    Attributes:
        running: episodes that had not ended before it.
        choices: what was chosen in them; to stop in the others.
        result: what the step brought.
        ended: episodes that ended with it.
    """

    running: Flags
    choices: Integers
    result: StepResult
    ended: Flags


@dataclass(frozen=True)
class _Before:
    """An episode before an action: see `Episodes`."""

    grids: list[int]
    latents: Floats
    mask: npt.NDArray[np.int8]


def cosine_distance(one: Floats, other: Floats) -> Floats:
    """(...,) one minus the cosine of (..., D) vectors."""
    norms = np.sqrt(np.einsum("...d,...d->...", one, one) * np.einsum("...d,...d->...", other, other))
    found: Floats = 1 - np.einsum("...d,...d->...", one, other) / np.maximum(norms, 1e-8)
    return found


class BatchedEpisodes:
    """The state of N episodes."""

    def __init__(
        self, cache: TransitionCache, problems: Sequence[Problem], config: EnvConfig, count: int, options: Options = ()
    ) -> None:
        """N episodes, none of them begun."""
        self.options, self._back = options, len(cache.actions)  # the latter in plans, beside actions
        self._choices = [(action,) for action in range(len(cache.actions))] + list(options)
        self.undo = len(self._choices) if config.undo else None
        if config.undo:
            self._choices.append((self._back,))
        self.stop = len(self._choices)
        self.cache, self.problems, self.config, self.count = cache, problems, config, count
        k, d = config.demonstrations, cache.latent_dim
        self.problem_index = np.zeros(count, dtype=np.int64)
        self.grids = np.zeros((count, k), dtype=np.int64)  # the real ones
        self.goals = np.zeros((count, k), dtype=np.int64)
        self.latents = np.zeros((count, k, d), dtype=np.float32)  # foreseen or real, as the dynamics say
        self.goal_latents = np.zeros((count, k, d), dtype=np.float32)
        self.steps = np.zeros(count, dtype=np.int64)
        self.mask = np.zeros((count, self.stop + 1), dtype=np.int8)
        self.tables: list[dict[int, int] | None] = [None] * count
        self.actions_taken: list[list[int]] = [[] for _ in range(count)]  # and not taken back
        self._trails: list[list[_Before]] = [[] for _ in range(count)]
        self._visited = np.zeros((count, config.max_steps + 1), dtype=np.int64)  # hashes of first grids, step by step
        self._bits = np.array([*(action.bits for action in cache.actions.actions), 0.0], dtype=np.float32)

    def reset(self, rows: Sequence[int], problems: Integers) -> None:
        """Begins episodes anew with problems of these numbers."""
        cache = self.cache
        for row, number in zip(rows, problems.tolist(), strict=True):
            problem = self.problems[number]
            self.problem_index[row] = number
            self.grids[row], self.goals[row] = cache.intern_problem(problem)
            self.actions_taken[row], self._trails[row] = [], []
            self._visited[row] = grid_hash(problem.inputs[0])
        chosen = np.asarray(rows, dtype=np.int64)
        both = cache.latents(np.stack([self.grids[chosen], self.goals[chosen]]))
        self.latents[chosen], self.goal_latents[chosen] = both
        self.steps[chosen] = 0
        self._update_masks(rows)

    def _update_masks(self, rows: Sequence[int]) -> None:
        """What may be done now in some episodes."""
        if not len(rows):
            return
        cache, chosen = self.cache, np.asarray(rows, dtype=np.int64)
        recolor, actions = cache.actions.recolor, len(cache.actions)
        changes, hashes = cache.legal_actions(self.grids[chosen, 0].tolist())
        been = (hashes[:, :, None] == self._visited[chosen][:, None]).any(axis=2)
        self.mask[chosen, :actions] = changes & ~been
        self.mask[chosen, -1] = 1
        if recolor is not None:
            alike = (cache.shapes(self.grids[chosen]) == cache.shapes(self.goals[chosen])).all(axis=1)
            self.mask[chosen, recolor] = 0
            for row, possible in zip(chosen.tolist(), alike.tolist(), strict=True):
                self.tables[row] = None
                if possible:
                    self.tables[row] = cache.color_table(self.grids[row].tolist(), self.goals[row].tolist())
                    self.mask[row, recolor] = self.tables[row] is not None
        for number, option in enumerate(self.options, actions):
            self.mask[chosen, number] = self.mask[chosen, option[0]]
        if self.undo is not None:
            self.mask[chosen, self.undo] = [len(self.actions_taken[row]) > 0 for row in chosen.tolist()]

    def observation(self, rows: Integers | None = None) -> Observation:
        """Episodes' observations, all or those of some rows; the arrays are the caller's."""
        chosen: Integers | slice = slice(None) if rows is None else rows
        return {
            "current": self.latents[chosen].clip(-LATENT_BOUND, LATENT_BOUND),
            "goal": self.goal_latents[chosen].clip(-LATENT_BOUND, LATENT_BOUND),
            "step": (self.steps[chosen] / self.config.max_steps).astype(np.float32)[:, None],
            "action_mask": self.mask[chosen].copy(),
        }

    def potential(self) -> Floats:
        """(N,) minus the distance to the goals."""
        found: Floats = -cosine_distance(self.latents, self.goal_latents).mean(axis=1)
        return found

    def play(self, choose: Callable[[Integers], Integers]) -> Iterator[Turn]:
        """Steps all episodes together until each of them has ended once.

        Args:
            choose: given the (n,) rows of the episodes that still run, returns their (n,) choices; a negative choice
                gives an episode up.
        """
        running = np.ones(self.count, dtype=bool)
        while running.any():
            rows = np.flatnonzero(running)
            chosen = choose(rows)
            running[rows[chosen < 0]] = False
            if not running.any():
                return
            choices = np.full(self.count, self.stop)
            choices[rows] = np.where(chosen < 0, self.stop, chosen)
            result = self.step(choices)
            ended = running & (result.terminated | result.truncated)
            yield Turn(running.copy(), choices, result, ended)
            running &= ~ended

    def step(self, choices: Integers) -> StepResult:
        """Makes a choice in every episode: an action, an option to its end, or to stop.

        An option ends early where the goals are reached, steps run out or an action is refused. Its reward is the
        discounted sum of its actions' (Sutton, Precup and Singh 1999).
        """
        stop = choices == self.stop
        plans = [() if halt else self._choices[choice] for choice, halt in zip(choices.tolist(), stop, strict=True)]
        reward, discount = np.zeros(self.count), np.ones(self.count)
        duration = np.zeros(self.count, dtype=np.int64)
        success, refused = np.zeros(self.count, dtype=bool), np.zeros(self.count, dtype=bool)
        goes_on = ~stop
        for place in range(max(map(len, plans), default=0)):
            active = goes_on & np.array([len(plan) > place for plan in plans])
            actions = np.array([plan[place] if on else -1 for plan, on in zip(plans, active, strict=True)])
            paid, reached, no = self._step_once(actions, active)
            reward += discount * paid
            discount = np.where(active, discount * self.config.gamma, discount)
            duration += active
            success |= reached
            refused |= no
            goes_on = active & ~reached & ~no & (self.steps < self.config.max_steps)
        self.mask[refused, choices[refused]] = 0  # until something changes, it would be refused again
        self.steps += stop
        distances = cosine_distance(self.latents, self.goal_latents).mean(axis=1)
        if self.config.reward.shaping_weight:
            reward += stop * self.config.reward.shaping_weight * distances  # nothing is left to fall
        truncated = (self.steps >= self.config.max_steps) & ~success & ~stop
        return StepResult(
            reward.astype(np.float32), success | stop, truncated, success, (self.grids == self.goals).all(axis=1),
            distances.astype(np.float32), refused, duration,
        )  # fmt: skip

    def _step_once(self, actions: Integers, active: Flags) -> tuple[npt.NDArray[np.float64], Flags, Flags]:
        """Takes an action in the active episodes; what is paid, whether the goals are reached, what was refused."""
        config, reward, cache = self.config, self.config.reward, self.cache
        before = self.potential() if reward.shaping_weight else 0.0
        undoing = active & (actions == self._back)
        undone = undoing & np.array([len(trail) > 0 for trail in self._trails])
        back = np.flatnonzero(undone).tolist()
        masks = [self._take_back(row) for row in back]
        changed, refused = self._act(actions, active & ~undoing)
        refused |= undoing & ~undone  # there is nothing to take back at the beginning
        if config.dynamics == "grounded":
            self.latents[changed] = cache.latents(self.grids[changed])
        elif len(changed):
            tables = [self.tables[row] for row in changed.tolist()]
            self.latents[changed] = cache.predict_latents(self.latents[changed], actions[changed], tables)
        self.steps += active
        if config.dynamics == "grounded":
            reached = (self.grids == self.goals).all(axis=1) & active
        else:
            distances = cosine_distance(self.latents, self.goal_latents)
            reached = (distances.max(axis=1) < reward.success_distance) & active
        reached &= ~undoing  # the beginning may be near the goals, and nothing is solved by going back to it
        self._update_masks([row for row in changed.tolist() if not reached[row]] + back)
        for row, mask in zip(back, masks, strict=True):
            self.mask[row] &= mask  # what was refused there still is
        paid = reward.success_bonus * reached - reward.step_penalty - reward.simplicity_weight * self._bits[actions]
        if reward.shaping_weight:
            # Potential 0 at the end, so that the best policy stays the same.
            paid = paid + reward.shaping_weight * (config.gamma * self.potential() * ~reached - before)
        return np.where(active, paid, 0.0), reached, refused

    def _act(self, actions: Integers, active: Flags) -> tuple[Integers, Flags]:
        """Applies actions to the real grids; the rows whose grids changed, and which actions were refused."""
        cache, refused = self.cache, np.zeros(self.count, dtype=bool)
        changed = []
        for row in np.flatnonzero(active).tolist():
            action = int(actions[row])
            grids, table = self.grids[row].tolist(), self.tables[row]
            if action == cache.actions.recolor:
                after = [REFUSED] if table is None else [cache.recolor(grid, table) for grid in grids]
            else:
                after = [cache.outcome(grid, action) for grid in grids]
            if REFUSED in after:
                refused[row] = True
                continue
            if self.undo is not None:
                self._trails[row].append(_Before(grids, self.latents[row].copy(), self.mask[row].copy()))
            self.grids[row] = after
            self.actions_taken[row].append(action)
            self._visited[row, self.steps[row] + 1] = grid_hash(cache.grids[after[0]])
            changed.append(row)
        return np.array(changed, dtype=np.int64), refused

    def _take_back(self, row: int) -> npt.NDArray[np.int8]:
        """Undoes an episode's last action; what could be done before it."""
        before = self._trails[row].pop()
        self.actions_taken[row].pop()
        self.grids[row], self.latents[row] = before.grids, before.latents
        return before.mask
