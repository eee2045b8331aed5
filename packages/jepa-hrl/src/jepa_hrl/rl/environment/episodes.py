"""The batched state of many episodes, which the environment and its vectorised form share.

Shapes: N episodes, K demonstrations, D latent channels, A actions, O options. An option is a sequence of actions taken
as one choice. The C choices are indexed in this order: the A actions, the O options, undoing the last action (only
where the environment allows it), and stopping.
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
    """What a step of N episodes returns, (N,) each.

    Attributes:
        reward: float32.
        terminated: the goals are reached, as far as the dynamics tell, or the agent stopped.
        truncated: the episode has used up its steps.
        success: the bonus was paid. With model dynamics the latents are near the goals', else the grids are equal.
        grounded: the real grids equal the goals, whatever the latents say.
        distance: cosine distance between the latents and the goals', mean over demonstrations.
        refused: an action could not be applied to the real grids and changed nothing.
        duration: int64, actions done: more than one for an option, 0 for stopping.
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
    """One step of `BatchedEpisodes.play`, (N,) each.

    Attributes:
        running: episodes that had not ended before the step.
        choices: the choice made in each; stopping where the episode was not running.
        result: what the step returned.
        ended: running episodes that ended with the step.
    """

    running: Flags
    choices: Integers
    result: StepResult
    ended: Flags


@dataclass(frozen=True)
class _Snapshot:
    """An episode's state before an action, for undoing it; see the attributes of `BatchedEpisodes`."""

    grids: list[int]
    latents: Floats
    mask: npt.NDArray[np.int8]


def cosine_distance(one: Floats, other: Floats) -> Floats:
    """Returns one minus the cosine of (..., D) vectors, (...,) in 0..2."""
    norms = np.sqrt(np.einsum("...d,...d->...", one, one) * np.einsum("...d,...d->...", other, other))
    distance: Floats = 1 - np.einsum("...d,...d->...", one, other) / np.maximum(norms, 1e-8)
    return distance


class BatchedEpisodes:
    """The state of N episodes that are stepped together.

    Attributes:
        problem_index: (N,) index of each episode's problem.
        grids, goals: (N, K) ids of the real grids and of the goal grids.
        latents, goal_latents: (N, K, D). With model dynamics `latents` are predictions, else of the real grids.
        steps: (N,) steps taken.
        mask: (N, C) int8, 1 for each choice that is allowed.
        tables: colour table of `recolor` in each episode, None where it is not allowed.
        actions_taken: actions of each episode that were not undone.
        undo, stop: indices of these choices; `undo` is None where the environment has no undo.
    """

    def __init__(
        self, cache: TransitionCache, problems: Sequence[Problem], config: EnvConfig, count: int, options: Options = ()
    ) -> None:
        """Allocates N episodes; `reset` starts them.

        Args:
            cache: transitions and latents of grids.
            problems: problems that `reset` refers to by index.
            config: dynamics, rewards and limits.
            count: N.
            options: O sequences of action indices.
        """
        self.options, self._back = options, len(cache.actions)  # the latter in plans, beside actions
        self._choices = [(action,) for action in range(len(cache.actions))] + list(options)
        self.undo = len(self._choices) if config.undo else None
        if config.undo:
            self._choices.append((self._back,))
        self.stop = len(self._choices)
        self.cache, self.problems, self.config, self.count = cache, problems, config, count
        k, d = config.demonstrations, cache.latent_dim
        self.problem_index = np.zeros(count, dtype=np.int64)
        self.grids = np.zeros((count, k), dtype=np.int64)
        self.goals = np.zeros((count, k), dtype=np.int64)
        self.latents = np.zeros((count, k, d), dtype=np.float32)
        self.goal_latents = np.zeros((count, k, d), dtype=np.float32)
        self.steps = np.zeros(count, dtype=np.int64)
        self.mask = np.zeros((count, self.stop + 1), dtype=np.int8)
        self.tables: list[dict[int, int] | None] = [None] * count
        self.actions_taken: list[list[int]] = [[] for _ in range(count)]
        self._snapshots: list[list[_Snapshot]] = [[] for _ in range(count)]
        self._visited = np.zeros((count, config.max_steps + 1), dtype=np.int64)  # hashes of first grids, step by step
        self._bits = np.array([*(action.bits for action in cache.actions.actions), 0.0], dtype=np.float32)

    def reset(self, rows: Sequence[int], problems: Integers) -> None:
        """Starts the episodes of some rows anew, each at the inputs of a problem.

        Args:
            rows: n rows in 0..N-1.
            problems: (n,) indices of their problems.
        """
        cache = self.cache
        for row, index in zip(rows, problems.tolist(), strict=True):
            problem = self.problems[index]
            self.problem_index[row] = index
            self.grids[row], self.goals[row] = cache.intern_problem(problem)
            self.actions_taken[row], self._snapshots[row] = [], []
            self._visited[row] = grid_hash(problem.inputs[0])
        selected = np.asarray(rows, dtype=np.int64)
        both = cache.latents(np.stack([self.grids[selected], self.goals[selected]]))
        self.latents[selected], self.goal_latents[selected] = both
        self.steps[selected] = 0
        self._update_masks(rows)

    def _update_masks(self, rows: Sequence[int]) -> None:
        """Recomputes which choices the episodes of some rows allow.

        An action is allowed if it turns the first demonstration's grid into one not yet visited in this episode, which
        prevents loops. `recolor` is allowed where a table of colours gives all goals, an option where its first action
        is allowed, undoing after at least one action, and stopping always.
        """
        if not len(rows):
            return
        cache, selected = self.cache, np.asarray(rows, dtype=np.int64)
        recolor, actions = cache.actions.recolor, len(cache.actions)
        changes, result_hashes = cache.legal_actions(self.grids[selected, 0].tolist())
        revisits = (result_hashes[:, :, None] == self._visited[selected][:, None]).any(axis=2)
        self.mask[selected, :actions] = changes & ~revisits
        self.mask[selected, -1] = 1
        if recolor is not None:
            same_shapes = (cache.shapes(self.grids[selected]) == cache.shapes(self.goals[selected])).all(axis=1)
            self.mask[selected, recolor] = 0
            for row, possible in zip(selected.tolist(), same_shapes.tolist(), strict=True):
                self.tables[row] = None
                if possible:
                    self.tables[row] = cache.color_table(self.grids[row].tolist(), self.goals[row].tolist())
                    self.mask[row, recolor] = self.tables[row] is not None
        for choice, option in enumerate(self.options, actions):
            self.mask[selected, choice] = self.mask[selected, option[0]]
        if self.undo is not None:
            self.mask[selected, self.undo] = [len(self.actions_taken[row]) > 0 for row in selected.tolist()]

    def observation(self, rows: Integers | None = None) -> Observation:
        """Returns the observations of some rows, of all by default; the arrays are copies."""
        selected: Integers | slice = slice(None) if rows is None else rows
        return {
            "current": self.latents[selected].clip(-LATENT_BOUND, LATENT_BOUND),
            "goal": self.goal_latents[selected].clip(-LATENT_BOUND, LATENT_BOUND),
            "step": (self.steps[selected] / self.config.max_steps).astype(np.float32)[:, None],
            "action_mask": self.mask[selected].copy(),
        }

    def potential(self) -> Floats:
        """Returns the (N,) potential of reward shaping: minus the mean distance to the goals."""
        potential: Floats = -cosine_distance(self.latents, self.goal_latents).mean(axis=1)
        return potential

    def play(self, choose: Callable[[Integers], Integers]) -> Iterator[Turn]:
        """Steps all episodes together until each of them has ended once.

        Args:
            choose: function from the (n,) rows of the running episodes to their (n,) choices; a negative choice
                abandons the episode.
        Yields:
            One turn a step.
        """
        running = np.ones(self.count, dtype=bool)
        while running.any():
            rows = np.flatnonzero(running)
            row_choices = choose(rows)
            running[rows[row_choices < 0]] = False
            if not running.any():
                return
            choices = np.full(self.count, self.stop)
            choices[rows] = np.where(row_choices < 0, self.stop, row_choices)
            result = self.step(choices)
            ended = running & (result.terminated | result.truncated)
            yield Turn(running.copy(), choices, result, ended)
            running &= ~ended

    def step(self, choices: Integers) -> StepResult:
        """Makes one choice in every episode: an action, an option up to its end, undoing, or stopping.

        An option ends early where the goals are reached, the steps run out or an action is refused. Its reward is the
        discounted sum of its actions' rewards.

        Args:
            choices: (N,) indices of choices.
        Source: options and their rewards as in Sutton, Precup and Singh 1999.
        """
        stop = choices == self.stop
        plans = [() if halt else self._choices[choice] for choice, halt in zip(choices.tolist(), stop, strict=True)]
        reward, discount = np.zeros(self.count), np.ones(self.count)
        duration = np.zeros(self.count, dtype=np.int64)
        success, refused = np.zeros(self.count, dtype=bool), np.zeros(self.count, dtype=bool)
        unfinished = ~stop
        for index in range(max(map(len, plans), default=0)):
            active = unfinished & np.array([len(plan) > index for plan in plans])
            actions = np.array([plan[index] if on else -1 for plan, on in zip(plans, active, strict=True)])
            action_reward, reached, action_refused = self._step_once(actions, active)
            reward += discount * action_reward
            discount = np.where(active, discount * self.config.gamma, discount)
            duration += active
            success |= reached
            refused |= action_refused
            unfinished = active & ~reached & ~action_refused & (self.steps < self.config.max_steps)
        self.mask[refused, choices[refused]] = 0  # until something changes, it would be refused again
        self.steps += stop
        distances = cosine_distance(self.latents, self.goal_latents).mean(axis=1)
        if self.config.reward.shaping_weight:
            reward += stop * self.config.reward.shaping_weight * distances  # the potential is 0 after the end
        truncated = (self.steps >= self.config.max_steps) & ~success & ~stop
        return StepResult(
            reward.astype(np.float32), success | stop, truncated, success, (self.grids == self.goals).all(axis=1),
            distances.astype(np.float32), refused, duration,
        )  # fmt: skip

    def _step_once(self, actions: Integers, active: Flags) -> tuple[npt.NDArray[np.float64], Flags, Flags]:
        """Takes one action, or undoes one, in the active episodes.

        Args:
            actions: (N,) indices of actions; A for undoing.
            active: (N,) episodes that act.
        Returns:
            reward, reached, refused: (N,) each; `reached` where the goals are, as far as the dynamics tell.
        """
        config, reward, cache = self.config, self.config.reward, self.cache
        potential_before = self.potential() if reward.shaping_weight else 0.0
        undoing = active & (actions == self._back)
        undone = undoing & np.array([len(snapshots) > 0 for snapshots in self._snapshots])
        undone_rows = np.flatnonzero(undone).tolist()
        masks = [self._restore(row) for row in undone_rows]
        changed, refused = self._apply_actions(actions, active & ~undoing)
        refused |= undoing & ~undone  # at the start there is nothing to undo
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
        reached &= ~undoing  # the start may be near the goals, and returning to it solves nothing
        self._update_masks([row for row in changed.tolist() if not reached[row]] + undone_rows)
        for row, mask in zip(undone_rows, masks, strict=True):
            self.mask[row] &= mask  # what was refused there still is
        total = reward.success_bonus * reached - reward.step_penalty - reward.simplicity_weight * self._bits[actions]
        if reward.shaping_weight:
            # Potential 0 at the end, so that the best policy stays the same.
            total = total + reward.shaping_weight * (config.gamma * self.potential() * ~reached - potential_before)
        return np.where(active, total, 0.0), reached, refused

    def _apply_actions(self, actions: Integers, active: Flags) -> tuple[Integers, Flags]:
        """Applies actions to the real grids of the active episodes.

        Returns:
            changed: (n,) rows whose grids changed.
            refused: (N,) episodes whose action could not be applied.
        """
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
                self._snapshots[row].append(_Snapshot(grids, self.latents[row].copy(), self.mask[row].copy()))
            self.grids[row] = after
            self.actions_taken[row].append(action)
            self._visited[row, self.steps[row] + 1] = grid_hash(cache.grids[after[0]])
            changed.append(row)
        return np.array(changed, dtype=np.int64), refused

    def _restore(self, row: int) -> npt.NDArray[np.int8]:
        """Undoes an episode's last action; returns the mask that the episode had before it."""
        snapshot = self._snapshots[row].pop()
        self.actions_taken[row].pop()
        self.grids[row], self.latents[row] = snapshot.grids, snapshot.latents
        return snapshot.mask
