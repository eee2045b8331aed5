"""Many episodes side by side: what both the environment and its vectorised form are made of.

N episodes, K demonstrations, D latent channels, A actions; action A is to stop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jepa_hrl.programs.actions import inferred_table
from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.puzzles import Puzzle
from jepa_hrl.rl.world import REFUSED, Flags, Floats, Integers, World

Observation = dict[str, npt.NDArray[np.float32] | npt.NDArray[np.int8]]


@dataclass(frozen=True)
class Stepped:
    """What a step brought, (N,) each.

    Attributes:
        reward: float32.
        terminated: reached the goal, as far as the dynamics tell, or stopped.
        truncated: out of steps.
        success: what the bonus is paid for: near in latents where the model tells, equal grids otherwise.
        grounded: the real grids equal the goals.
        distance: of the latents from the goals', mean over demonstrations.
        refused: the action was not possible on the real grids and changed nothing.
    """

    reward: Floats
    terminated: Flags
    truncated: Flags
    success: Flags
    grounded: Flags
    distance: Floats
    refused: Flags


def cosine_distance(one: Floats, other: Floats) -> Floats:
    """(...,) one minus the cosine of (..., D) vectors."""
    norms = np.sqrt(np.einsum("...d,...d->...", one, one) * np.einsum("...d,...d->...", other, other))
    found: Floats = 1 - np.einsum("...d,...d->...", one, other) / np.maximum(norms, 1e-8)
    return found


class Episodes:
    """The state of N episodes."""

    def __init__(self, world: World, puzzles: Sequence[Puzzle], config: EnvConfig, count: int) -> None:
        """N episodes, none of them begun."""
        self.world, self.puzzles, self.config, self.count = world, puzzles, config, count
        k, d = config.demonstrations, world.width
        self.puzzle = np.zeros(count, dtype=np.int64)
        self.grids = np.zeros((count, k), dtype=np.int64)  # the real ones
        self.goals = np.zeros((count, k), dtype=np.int64)
        self.latents = np.zeros((count, k, d), dtype=np.float32)  # foreseen or real, as the dynamics say
        self.goal_latents = np.zeros((count, k, d), dtype=np.float32)
        self.steps = np.zeros(count, dtype=np.int64)
        self.mask = np.zeros((count, len(world.actions) + 1), dtype=np.int8)
        self.tables: list[dict[int, int] | None] = [None] * count
        self.taken: list[list[int]] = [[] for _ in range(count)]
        self._bits = np.array([action.bits for action in world.actions.actions] + [0.0], dtype=np.float32)

    def begin(self, rows: Sequence[int], puzzles: Integers) -> None:
        """Begins episodes anew with puzzles of these numbers."""
        world = self.world
        for row, number in zip(rows, puzzles.tolist(), strict=True):
            puzzle = self.puzzles[number]
            self.puzzle[row] = number
            self.grids[row] = [world.number(grid) for grid in puzzle.inputs]
            self.goals[row] = [world.number(grid) for grid in puzzle.goals]
            self.taken[row] = []
        chosen = np.asarray(rows, dtype=np.int64)
        both = world.latents(np.stack([self.grids[chosen], self.goals[chosen]]))
        self.latents[chosen], self.goal_latents[chosen] = both
        self.steps[chosen] = 0
        self._look(rows)

    def _look(self, rows: Sequence[int]) -> None:
        """What may be done now in some episodes."""
        world, recolor = self.world, self.world.actions.recolor
        for row in rows:
            grids, goals = self.grids[row].tolist(), self.goals[row].tolist()
            mask = self.mask[row]
            mask[:-1] = world.legal(grids[0])
            mask[-1] = 1
            self.tables[row] = None
            if recolor is not None and all(
                world.grids[grid].shape == world.grids[goal].shape for grid, goal in zip(grids, goals, strict=True)
            ):
                table = inferred_table([world.grids[n] for n in grids], [world.grids[n] for n in goals])
                self.tables[row] = table
                mask[recolor] = table is not None

    def observation(self) -> Observation:
        """All episodes' observations; the arrays are the caller's."""
        return {
            "current": self.latents.copy(), "goal": self.goal_latents.copy(),
            "step": (self.steps / self.config.max_steps).astype(np.float32)[:, None], "action_mask": self.mask.copy(),
        }  # fmt: skip

    def potential(self) -> Floats:
        """(N,) minus the distance to the goals."""
        found: Floats = -cosine_distance(self.latents, self.goal_latents).mean(axis=1)
        return found

    def step(self, actions: Integers) -> Stepped:
        """Takes an action in every episode."""
        config, reward, world = self.config, self.config.reward, self.world
        stop = actions == len(world.actions)
        shaping = reward.shaping_weight
        before = self.potential() if shaping else 0.0
        changed, refused = self._act(actions)
        if config.dynamics == "grounded":
            self.latents[changed] = world.latents(self.grids[changed])
        elif len(changed):
            tables = [self.tables[row] for row in changed.tolist()]
            self.latents[changed] = world.foreseen(self.latents[changed], actions[changed], tables)
        self._look(changed.tolist())
        self.steps += 1
        distances = cosine_distance(self.latents, self.goal_latents)
        grounded = (self.grids == self.goals).all(axis=1)
        near = distances.max(axis=1) < reward.success_distance
        success = (near if config.dynamics == "model" else grounded) & ~stop
        truncated = (self.steps >= config.max_steps) & ~success & ~stop
        cost = np.where(stop, 0.0, reward.step_penalty + reward.simplicity_weight * self._bits[actions])
        paid = reward.success_bonus * success - cost
        if shaping:
            paid = paid + shaping * (config.gamma * -distances.mean(axis=1) * ~(success | stop) - before)
        return Stepped(
            paid.astype(np.float32), success | stop, truncated, success, grounded,
            distances.mean(axis=1).astype(np.float32), refused,
        )  # fmt: skip

    def _act(self, actions: Integers) -> tuple[Integers, Flags]:
        """Applies actions to the real grids; the rows whose grids changed, and which actions were refused."""
        world, refused = self.world, np.zeros(self.count, dtype=bool)
        changed = []
        for row, action in enumerate(actions.tolist()):
            if action == len(world.actions):
                continue
            grids, table = self.grids[row].tolist(), self.tables[row]
            if action == world.actions.recolor:
                after = [REFUSED] if table is None else [world.renamed(grid, table) for grid in grids]
            else:
                after = [world.outcome(grid, action) for grid in grids]
            if REFUSED in after:
                refused[row] = True
                continue
            self.grids[row] = after
            self.taken[row].append(action)
            changed.append(row)
        return np.array(changed, dtype=np.int64), refused
