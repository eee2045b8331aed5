"""How well a program-conditioned JEPA foresees held-out outcomes. G grids, D channels, C candidates."""

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
from jepa_hrl.world_model.data import Integers, Triples, follow, tokenize_grids
from jepa_hrl.world_model.model import ProgramJepa

CANDIDATES = 64
_GRIDS_AT_ONCE = 512
_SAME_GRID = 256  # held-out steps that are told from all other actions' outcomes


@torch.no_grad()
def encode_grids(model: ProgramJepa, table: DeviceTable, grids: Integers) -> Tensor:
    """(n, D) latents of some grids of a table."""
    starts = range(0, len(grids), _GRIDS_AT_ONCE)
    return torch.cat([model.encode(table.tokens(grids[first : first + _GRIDS_AT_ONCE])) for first in starts])


class Retrieval:
    """Held-out steps of programs, each to be told from others by its predicted latent.

    `accuracy`: among the outcomes of 64 held-out steps. `accuracy_same_grid`: among all that any action makes of the
    same grid, the grid itself included, `candidates_same_grid` on average.
    """

    def __init__(
        self, triples: Triples, table: DeviceTable, actions: ActionSet, encoder: EncoderConfig, most: int
    ) -> None:
        """Draws the steps, the same at every call."""
        records = np.flatnonzero(triples.held_out & ~triples.explored)
        chosen = generator_for(0, "retrieval", 0).permutation(records)[:most]
        self._records: Integers = chosen[: len(chosen) // CANDIDATES * CANDIDATES]
        self._triples, self._table = triples, table
        grids: list[Array] = []
        self._rows: list[Integers] = []  # of what all actions make of a step's grid; the right outcome first
        for record in self._records[:_SAME_GRID].tolist():
            source, right = triples.grids[triples.sources[record]], triples.grids[triples.outcomes[record]]
            made = [right, source]
            made += [found for n in range(len(actions)) if (found := actions.outcome(n, source)) is not None]
            different = list({(grid.shape, grid.tobytes()): grid for grid in made}.values())
            self._rows.append(np.arange(len(grids), len(grids) + len(different)))
            grids += different
        self._others = DeviceTable(tokenize_grids(grids, encoder, ""), table.device)

    @torch.no_grad()
    def score(self, model: ProgramJepa) -> dict[str, float]:
        """The accuracies, the loss among the 64, and statistics of the outcomes' latents."""
        triples, table = self._triples, self._table
        programs = follow(triples, self._records, 1)
        before = encode_grids(model, table, programs.sources)
        after = encode_grids(model, table, programs.outcomes[:, 0])
        rows = torch.from_numpy(triples.argument_rows).to(table.device)
        numbers = torch.from_numpy(programs.actions).to(table.device)
        vectors = model.programs(numbers, rows[torch.from_numpy(programs.arguments).to(table.device)])[:, 0]
        predicted = model.transition(before, vectors)
        groups = cosine_distance(
            predicted.reshape(-1, CANDIDATES, predicted.shape[1])[:, :, None],
            after.reshape(-1, CANDIDATES, after.shape[1])[:, None],
        )  # (groups, 64 predictions, 64 outcomes)
        outcomes = torch.from_numpy(programs.outcomes[:, 0]).to(table.device).reshape(-1, CANDIDATES)
        nearest = outcomes.gather(1, groups.argmin(dim=2))
        own = torch.arange(CANDIDATES, device=table.device).expand(len(groups), -1)
        loss = functional.cross_entropy(
            ((1 - groups) / model.temperature).flatten(0, 1), own.flatten()
        )  # equal outcomes within a group count as wrong here, and only here
        others = encode_grids(model, self._others, np.arange(len(self._others.table.grids)))
        found = [
            cosine_distance(predicted[n], others[torch.from_numpy(r)]).argmin() == 0 for n, r in enumerate(self._rows)
        ]
        values = {
            "val/loss": float(loss), "val/accuracy": float((nearest == outcomes).float().mean()),
            "val/accuracy_same_grid": float(torch.stack(found).float().mean()),
            "val/candidates_same_grid": float(np.mean([len(r) for r in self._rows])),
            "val/distance": float(cosine_distance(predicted, after).mean()),
        }  # fmt: skip
        return values | {f"diagnostics/target/{key}": value for key, value in latent_statistics(after).items()}
