"""A cache of interned grids, of what each action makes of them, and of their latents.

Everything here is computed once for each grid and could be computed again: forgetting costs time and changes nothing
else. Shapes: A actions, D latent channels, K demonstrations.
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

REFUSED = -1  # in place of a grid's id, where an action cannot be applied


class TransitionCache:
    """Grids by id, with memoised transitions, action masks and latents.

    Attributes:
        grids: the interned grids; a grid's id is its index here.
        actions: the A actions of the world model.
        action_vectors: (A, hidden) the world model's encoding of each action.
        latent_dim: D, channels of a grid's latent.
    """

    def __init__(self, model: ProgramJepa, actions: ActionSet, encoder: EncoderConfig, device: torch.device) -> None:
        """Starts without any grid.

        Args:
            model: world model that encodes grids and predicts what actions make of their latents.
            actions: actions that the model was trained on.
            encoder: the model's encoder settings, which say how a grid becomes tokens.
            device: where the model is.
        """
        self.model, self.actions, self.device = model, actions, device
        self._encoder = encoder
        self.latent_dim = encoder.latent_dim
        self.action_vectors = model.action_vectors(actions)
        self.forget()

    def forget(self) -> None:
        """Drops all grids; ids given out before are no longer valid."""
        self.grids: list[Array] = []
        self._ids: dict[tuple[tuple[int, ...], bytes], int] = {}
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
        """Returns the number of interned grids."""
        return len(self.grids)

    def intern(self, grid: Array) -> int:
        """Returns the id of a grid; equal grids have the same id."""
        key = (grid.shape, grid.tobytes())
        grid_id = self._ids.get(key)
        if grid_id is None:
            grid_id = self._ids[key] = len(self.grids)
            self.grids.append(grid)
        return grid_id

    def intern_problem(self, problem: Problem) -> tuple[list[int], list[int]]:
        """Returns the ids of a problem's K inputs and of its K goals."""
        ids = self._problems.get(problem)
        if ids is None:
            inputs, goals = ([self.intern(grid) for grid in grids] for grids in (problem.inputs, problem.goals))
            ids = self._problems[problem] = inputs, goals
        return ids

    def color_table(self, grid_ids: Sequence[int], goal_ids: Sequence[int]) -> dict[int, int] | None:
        """Returns the table of colours that turns grids into goals, None if none does; see `infer_color_table`."""
        key = (*grid_ids, *goal_ids)
        if key not in self._tables:
            grids = self.grids
            self._tables[key] = infer_color_table([grids[n] for n in grid_ids], [grids[n] for n in goal_ids])
        return self._tables[key]

    def outcome(self, grid_id: int, action: int) -> int:
        """Returns the id of the grid that an action makes of a grid, or REFUSED."""
        key = grid_id * len(self.actions.actions) + action
        outcome_id = self._outcomes.get(key)
        if outcome_id is None:
            grid = self.actions.outcome(action, self.grids[grid_id])
            outcome_id = self._outcomes[key] = REFUSED if grid is None else self.intern(grid)
        return outcome_id

    def recolor(self, grid_id: int, table: dict[int, int]) -> int:
        """Returns the id of a grid whose colours are exchanged by a table from old to new colours."""
        return self.intern(apply_color_table(self.grids[grid_id], table))

    def legal_actions(self, grid_ids: Sequence[int]) -> tuple[Flags, Integers]:
        """Returns which actions change each of n grids, and the `grid_hash` of what they make of it.

        Args:
            grid_ids: n ids.
        Returns:
            changes: (n, A) bool. `recolor` is always False here: its table depends on the goals.
            result_hashes: (n, A) int64, 0 where the action changes nothing.
        """
        rows = [self._action_row(grid_id) for grid_id in grid_ids]
        return self._changes[rows], self._result_hashes[rows]

    def _action_row(self, grid_id: int) -> int:
        """Returns the row of a grid in the two tables of `legal_actions`, and fills it on first use."""
        row = self._action_rows.get(grid_id)
        if row is None:
            row = self._action_rows[grid_id] = len(self._action_rows)
            if row == len(self._changes):
                self._changes = np.concatenate([self._changes, np.zeros_like(self._changes)])
                self._result_hashes = np.concatenate([self._result_hashes, np.zeros_like(self._result_hashes)])
            grid, actions = self.grids[grid_id], self.actions
            own_hash = grid_hash(grid)
            for action in range(len(actions)):
                result = actions.outcome(action, grid) if action != actions.recolor else None
                if result is not None and (result_hash := grid_hash(result)) != own_hash:
                    self._changes[row, action], self._result_hashes[row, action] = True, result_hash
        return row

    def shapes(self, grid_ids: Integers) -> Integers:
        """Returns a code of each grid's height and width; equal codes mean equal shapes.

        Args:
            grid_ids: (...,) ids.
        """
        for grid_id in range(self._shaped, len(self.grids)):
            if grid_id == len(self._shapes):
                self._shapes = np.concatenate([self._shapes, np.zeros_like(self._shapes)])
            height, width = self.grids[grid_id].shape
            self._shapes[grid_id] = 32 * height + width
        self._shaped = len(self.grids)
        codes: Integers = self._shapes[grid_ids]
        return codes

    def latents(self, grid_ids: Integers) -> Floats:
        """Returns the (..., D) latents of grids; those not encoded yet are encoded in one batch.

        Args:
            grid_ids: (...,) ids.
        """
        if len(self.grids) > len(self._encoded):
            more = max(2 * len(self._encoded), len(self.grids)) - len(self._encoded)
            self._latents = np.concatenate([self._latents, np.zeros((more, self.latent_dim), dtype=np.float32)])
            self._encoded = np.concatenate([self._encoded, np.zeros(more, dtype=bool)])
        flat = grid_ids.ravel()
        new = np.unique(flat[~self._encoded[flat]])
        if len(new):
            self._latents[new] = self._encode([self.grids[grid_id] for grid_id in new.tolist()])
            self._encoded[new] = True
        return self._latents[grid_ids]

    def _encode(self, grids: Sequence[Array]) -> Floats:
        table = DeviceTable(tokenize_grids(grids, self._encoder, ""), self.device)
        latents: Floats = encode_grids(self.model, table, np.arange(len(grids))).cpu().numpy()
        return latents

    @torch.no_grad()
    def predict_latents(self, latents: Floats, actions: Integers, tables: Sequence[dict[int, int] | None]) -> Floats:
        """Returns the (N, K, D) latents that the world model predicts after an action in each of N episodes.

        Args:
            latents: (N, K, D) latents before the action.
            actions: (N,) index of the action.
            tables: N tables of colours; used where the action is `recolor`.
        """
        vectors = self.action_vectors[torch.from_numpy(actions).to(self.device)]
        rows = [row for row, table in enumerate(tables) if table is not None and actions[row] == self.actions.recolor]
        if rows:
            vectors[rows] = self.model.table_vectors(self.actions, [tables[row] or {} for row in rows])
        after: Floats = self.model.transition(torch.from_numpy(latents).to(self.device), vectors[:, None]).cpu().numpy()
        return after


def grid_hash(grid: Array) -> int:
    """Returns a 64-bit hash of a grid's shape and cells; it differs from process to process."""
    return hash((grid.shape, grid.tobytes()))
