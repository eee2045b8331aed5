"""Validation of a program-conditioned JEPA: how well it predicts held-out outcomes. D channels."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from arc_core.randomness import generator_for
from jepa_hrl.dsl.types import Array
from jepa_hrl.jepa.collapse import latent_statistics
from jepa_hrl.jepa.config import EncoderConfig
from jepa_hrl.jepa.data.batches import DeviceTable
from jepa_hrl.jepa.losses.similarity import cosine_distance
from jepa_hrl.world_model.actions import ActionSet
from jepa_hrl.world_model.data import Integers, Triples, follow_traces, tokenize_grids
from jepa_hrl.world_model.model import ProgramJepa

CANDIDATES = 64
_GRIDS_PER_BATCH = 512
_MAX_SAME_GRID = 256  # held-out steps that are compared with the outcomes of all actions


@torch.no_grad()
def encode_grids(model: ProgramJepa, table: DeviceTable, grids: Integers) -> Tensor:
    """Encodes some grids of a table.

    Args:
        model: whose encoder is used.
        table: tokens of the grids.
        grids: (n,) indices of grids in the table.
    Returns:
        (n, D) latents.
    """
    starts = range(0, len(grids), _GRIDS_PER_BATCH)
    return torch.cat([model.encode(table.tokens(grids[first : first + _GRIDS_PER_BATCH])) for first in starts])


class Retrieval:
    """Retrieval of the outcomes of held-out steps by their predicted latents.

    `accuracy` is the share of steps whose outcome is the nearest among those of 64 held-out steps. `accuracy_same_grid`
    is the share whose outcome is the nearest among all that any action makes of the same grid, the grid itself
    included; these are `candidates_same_grid` on average.
    """

    def __init__(
        self, triples: Triples, table: DeviceTable, actions: ActionSet, encoder: EncoderConfig, max_steps: int
    ) -> None:
        """Draws the steps, always the same ones of the same triples.

        Args:
            triples: all records.
            table: tokens of their grids.
            actions: whose outcomes are the candidates of the same grid.
            encoder: settings of the tokens.
            max_steps: held-out steps, rounded down to a multiple of 64.
        """
        records = np.flatnonzero(triples.held_out & ~triples.explored)
        drawn = generator_for(0, "retrieval", 0).permutation(records)[:max_steps]
        self._records: Integers = drawn[: len(drawn) // CANDIDATES * CANDIDATES]
        self._triples, self._table = triples, table
        grids: list[Array] = []
        self._rows: list[Integers] = []  # of the outcomes of all actions for a step's grid, the right outcome first
        for record in self._records[:_MAX_SAME_GRID].tolist():
            source, correct = triples.grids[triples.sources[record]], triples.grids[triples.outcomes[record]]
            outcomes = [actions.outcome(index, source) for index in range(len(actions))]
            candidates = [correct, source, *(outcome for outcome in outcomes if outcome is not None)]
            distinct = list({(grid.shape, grid.tobytes()): grid for grid in candidates}.values())
            self._rows.append(np.arange(len(grids), len(grids) + len(distinct)))
            grids += distinct
        self._candidates = DeviceTable(tokenize_grids(grids, encoder, ""), table.device)

    @torch.no_grad()
    def score(self, model: ProgramJepa) -> dict[str, float]:
        """Computes the accuracies, the loss among the 64, and statistics of the outcomes' latents."""
        triples, table = self._triples, self._table
        programs = follow_traces(triples, self._records, 1)
        before = encode_grids(model, table, programs.sources)
        after = encode_grids(model, table, programs.outcomes[:, 0])
        argument_rows = torch.from_numpy(triples.argument_rows).to(table.device)
        action_indices = torch.from_numpy(programs.actions).to(table.device)
        arguments = argument_rows[torch.from_numpy(programs.arguments).to(table.device)]
        vectors = model.programs(action_indices, arguments)[:, 0]
        predicted = model.transition(before, vectors)
        distances = cosine_distance(
            predicted.reshape(-1, CANDIDATES, predicted.shape[1])[:, :, None],
            after.reshape(-1, CANDIDATES, after.shape[1])[:, None],
        )  # (groups, 64 predictions, 64 outcomes)
        outcomes = torch.from_numpy(programs.outcomes[:, 0]).to(table.device).reshape(-1, CANDIDATES)
        nearest = outcomes.gather(1, distances.argmin(dim=2))
        targets = torch.arange(CANDIDATES, device=table.device).expand(len(distances), -1)
        loss = functional.cross_entropy(
            ((1 - distances) / model.temperature).flatten(0, 1), targets.flatten()
        )  # the loss alone counts equal outcomes within a group as wrong
        candidates = encode_grids(model, self._candidates, np.arange(len(self._candidates.table.grids)))
        is_nearest = [
            cosine_distance(prediction, candidates[torch.from_numpy(rows)]).argmin() == 0
            for prediction, rows in zip(predicted[: len(self._rows)], self._rows, strict=True)
        ]
        metrics = {
            "val/loss": float(loss), "val/accuracy": float((nearest == outcomes).float().mean()),
            "val/accuracy_same_grid": float(torch.stack(is_nearest).float().mean()),
            "val/candidates_same_grid": float(np.mean([len(rows) for rows in self._rows])),
            "val/distance": float(cosine_distance(predicted, after).mean()),
        }  # fmt: skip
        return metrics | {f"diagnostics/target/{key}": value for key, value in latent_statistics(after).items()}
