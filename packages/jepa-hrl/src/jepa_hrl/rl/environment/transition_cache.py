"""Grids that episodes have come by: what actions make of them, which are of use, and their latents.

Everything here is computed once a grid and could be computed again: forgetting changes nothing but time. A actions,
D latent channels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from jepa_hrl.dsl.types import Array
from jepa_hrl.jepa.config import EncoderConfig
from jepa_hrl.jepa.data.batches import DeviceTable
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.world_model.actions import ActionSet, apply_color_table, infer_color_table
from jepa_hrl.world_model.data import tokenize_grids
from jepa_hrl.world_model.model import ProgramJepa
from jepa_hrl.world_model.validation import encode_grids

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

REFUSED = -1


class TransitionCache:
    """Grids by number."""

    def __init__(self, model: ProgramJepa, actions: ActionSet, encoder: EncoderConfig, device: torch.device) -> None:
        """An empty one."""
        self.model, self.actions, self.device = model, actions, device
        self._encoder = encoder
        self.latent_dim = encoder.latent_dim
        self.action_vectors = model.action_vectors(actions)
        self.forget()

    def forget(self) -> None:
        """Drops all grids; numbers given before mean nothing any more."""
        self.grids: list[Array] = []
        self._numbers: dict[tuple[tuple[int, ...], bytes], int] = {}
        self._outcomes: dict[int, int] = {}
        self._problems: dict[Problem, tuple[list[int], list[int]]] = {}
        self._tables: dict[tuple[int, ...], dict[int, int] | None] = {}
        self._action_rows: dict[int, int] = {}
        self._changes = np.zeros((1024, len(self.actions)), dtype=bool)
        self._result_hashes = np.zeros((1024, len(self.actions)), dtype=np.int64)
        self._shapes, self._shaped = np.zeros(1024, dtype=np.int64), 0
        self._latents = np.zeros((1024, self.latent_dim), dtype=np.float32)
        self._encoded = np.zeros(1024, dtype=bool)

    def __len__(self) -> int:
        """Grids."""
        return len(self.grids)

    def intern(self, grid: Array) -> int:
        """A grid's number."""
        key = (grid.shape, grid.tobytes())
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.grids)
            self.grids.append(grid)
        return found

    def intern_problem(self, problem: Problem) -> tuple[list[int], list[int]]:
        """The numbers of a problem's inputs and goals."""
        found = self._problems.get(problem)
        if found is None:
            inputs, goals = ([self.intern(grid) for grid in grids] for grids in (problem.inputs, problem.goals))
            found = self._problems[problem] = inputs, goals
        return found

    def color_table(self, numbers: Sequence[int], goals: Sequence[int]) -> dict[int, int] | None:
        """See `infer_color_table`."""
        key = (*numbers, *goals)
        if key not in self._tables:
            grids = self.grids
            self._tables[key] = infer_color_table([grids[n] for n in numbers], [grids[n] for n in goals])
        return self._tables[key]

    def outcome(self, number: int, action: int) -> int:
        """The grid that an action makes of a grid, or REFUSED."""
        key = number * len(self.actions.actions) + action
        found = self._outcomes.get(key)
        if found is None:
            made = self.actions.outcome(action, self.grids[number])
            found = self._outcomes[key] = REFUSED if made is None else self.intern(made)
        return found

    def recolor(self, number: int, table: dict[int, int]) -> int:
        """The grid with colours renamed."""
        return self.intern(apply_color_table(self.grids[number], table))

    def legal_actions(self, numbers: Sequence[int]) -> tuple[Flags, Integers]:
        """(n, A) which actions change each of some grids, and the hashes of what they make of it."""
        rows = [self._action_row(number) for number in numbers]
        return self._changes[rows], self._result_hashes[rows]

    def _action_row(self, number: int) -> int:
        """The row of a grid's legal_actions, computed if they are not known."""
        row = self._action_rows.get(number)
        if row is None:
            row = self._action_rows[number] = len(self._action_rows)
            if row == len(self._changes):
                self._changes = np.concatenate([self._changes, np.zeros_like(self._changes)])
                self._result_hashes = np.concatenate([self._result_hashes, np.zeros_like(self._result_hashes)])
            grid, actions = self.grids[number], self.actions
            own = grid_hash(grid)
            for action in range(len(actions)):
                made = actions.outcome(action, grid) if action != actions.recolor else None
                if made is not None and (after := grid_hash(made)) != own:
                    self._changes[row, action], self._result_hashes[row, action] = True, after
        return row

    def shapes(self, numbers: Integers) -> Integers:
        """(...,) a number for each grid's height and width."""
        for number in range(self._shaped, len(self.grids)):
            if number == len(self._shapes):
                self._shapes = np.concatenate([self._shapes, np.zeros_like(self._shapes)])
            height, width = self.grids[number].shape
            self._shapes[number] = 32 * height + width
        self._shaped = len(self.grids)
        found: Integers = self._shapes[numbers]
        return found

    def latents(self, numbers: Integers) -> Floats:
        """(..., D) latents of grids, computed together for those that have none yet."""
        if len(self.grids) > len(self._encoded):
            more = max(2 * len(self._encoded), len(self.grids)) - len(self._encoded)
            self._latents = np.concatenate([self._latents, np.zeros((more, self.latent_dim), dtype=np.float32)])
            self._encoded = np.concatenate([self._encoded, np.zeros(more, dtype=bool)])
        flat = numbers.ravel()
        new = np.unique(flat[~self._encoded[flat]])
        if len(new):
            self._latents[new] = self._encode([self.grids[number] for number in new.tolist()])
            self._encoded[new] = True
        return self._latents[numbers]

    def _encode(self, grids: Sequence[Array]) -> Floats:
        table = DeviceTable(tokenize_grids(grids, self._encoder, ""), self.device)
        found: Floats = encode_grids(self.model, table, np.arange(len(grids))).cpu().numpy()
        return found

    @torch.no_grad()
    def predict_latents(self, latents: Floats, actions: Integers, tables: Sequence[dict[int, int] | None]) -> Floats:
        """(N, K, D) predicted latents of what actions make of grids.

        Args:
            latents: (N, K, D).
            actions: (N,).
            tables: of the N, where the action is `recolor`.
        """
        vectors = self.action_vectors[torch.from_numpy(actions).to(self.device)]
        rows = [row for row, table in enumerate(tables) if table is not None and actions[row] == self.actions.recolor]
        if rows:
            vectors[rows] = self.model.table_vectors(self.actions, [tables[row] or {} for row in rows])
        found: Floats = self.model.transition(torch.from_numpy(latents).to(self.device), vectors[:, None]).cpu().numpy()
        return found


def grid_hash(grid: Array) -> int:
    """A number that equal grids share and different ones hardly ever; another one in every process."""
    return hash((grid.shape, grid.tobytes()))
