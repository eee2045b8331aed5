"""Batches of pairs as padded tokens on a device. B pairs, G = 2 B grids."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arc_core.randomness import generator_for
from jepa_hrl.jepa.augment import TokenBatch, hidden, moved, recolored, turned
from jepa_hrl.jepa.config import AugmentationConfig
from jepa_hrl.jepa.encoder import Encoder
from jepa_hrl.jepa.token_table import TokenTable
from jepa_hrl.objects.tokens import MOST_OBJECTS

_PARTS = 8  # that a batch's grids are split into by their number of objects, so that little is padded

Integers = npt.NDArray[np.int64]


class DeviceTable:
    """A token table on a device."""

    def __init__(self, table: TokenTable, device: torch.device) -> None:
        self.table, self.device = table, device
        self._objects = torch.from_numpy(table.objects).to(device)
        self._grids = torch.from_numpy(table.grids).to(device)
        self._starts = torch.from_numpy(table.starts).to(device)
        self._counts = np.diff(table.starts)

    def tokens(self, grids: Integers) -> TokenBatch:
        """The tokens of some grids, padded to the most objects among them."""
        most = int(self._counts[grids].max(initial=0))
        chosen = torch.from_numpy(grids).to(self.device)
        starts, ends = self._starts[chosen], self._starts[chosen + 1]
        places = starts[:, None] + torch.arange(most, device=self.device)
        present = places < ends[:, None]
        objects = self._objects[places.clamp_max(len(self._objects) - 1)].float()
        return TokenBatch(objects * present[..., None], present, self._grids[chosen].float())

    def by_size(self, grids: Integers) -> list[Integers]:
        """Places in a list of grids, split into parts of like numbers of objects."""
        order = np.argsort(self._counts[grids], kind="stable")
        return [part for part in np.array_split(order, _PARTS) if len(part)]


@dataclass(frozen=True)
class Drawn:
    """What a step's batch is made of, for the whole batch.

    Attributes:
        pairs: (B,) pair numbers, a task's one after another.
        tasks: (B,) which of the batch's tasks each is of.
    """

    pairs: Integers
    tasks: Integers


def draw_pairs(table: TokenTable, tasks: Integers, most: int, rng: np.random.Generator) -> Drawn:
    """Random pairs of tasks, as many of each: `most`, or what the task with fewest has."""
    starts, counts = table.tasks[tasks], np.diff(table.tasks)[tasks]
    number = min(most, int(counts.min()))
    ranks = rng.random((len(tasks), int(counts.max())))
    ranks[np.arange(ranks.shape[1]) >= counts[:, None]] = 2.0
    chosen = np.sort(ranks.argsort(axis=1)[:, :number], axis=1)
    return Drawn((starts[:, None] + chosen).ravel(), np.repeat(np.arange(len(tasks)), number))


@dataclass(frozen=True)
class Batch:
    """What one process computes on.

    Attributes:
        parts: tokens of the inputs and outputs as the context encoder sees them.
        order: (G,) where the parts' grids stand among the inputs followed by the outputs.
        tasks: (B,) which task each pair is of.
        targets, target_order: the outputs' tokens as the target encoder sees them, and their places.
        places: of the parts' grids among those of all processes, of which there are `total`.
    """

    parts: list[TokenBatch]
    order: Tensor
    tasks: Tensor
    targets: list[TokenBatch]
    target_order: Tensor
    places: list[Integers]
    total: int

    @cached_property
    def owners(self) -> Tensor:
        """(M,) the grid of each object among those of the parts, one part after another."""
        first = np.cumsum([0, *(len(part.grids) for part in self.parts)])
        found = [torch.nonzero(part.present)[:, 0] + int(f) for part, f in zip(self.parts, first, strict=False)]
        return torch.cat(found)

    @property
    def owner_places(self) -> Tensor:
        """(M,) the grid of each object among those of all processes."""
        return torch.from_numpy(np.concatenate(self.places)).to(self.owners.device)[self.owners]

    def target_latents(self, encoder: Encoder) -> Tensor:
        """(B, D) latents of the outputs by a target encoder."""
        latents: Tensor = encoder(self.targets).latents
        return torch.empty_like(latents).index_copy(0, self.target_order, latents)


def make_batch(
    table: DeviceTable, drawn: Drawn, augmentations: AugmentationConfig | None, rng: np.random.Generator, share: slice
) -> Batch:
    """This process's share of a batch.

    Args:
        augmentations: None for none.
        rng: draws for the whole batch, so that every process sees what one alone would.
        share: of the batch's tasks.
    """
    number, count = len(drawn.pairs), int(drawn.tasks.max()) + 1
    names = _renamings(rng.random((count, 10)))[drawn.tasks]
    keep = rng.random((number, MOST_OBJECTS))
    mine = np.isin(drawn.tasks, np.arange(count)[share])
    pairs, tasks = drawn.pairs[mine], np.unique(drawn.tasks[mine], return_inverse=True)[1]
    grids = np.concatenate([2 * pairs, 2 * pairs + 1])
    own_names = np.concatenate([names[mine]] * 2)
    ratio = augmentations.mask_ratio if augmentations is not None else 0.0
    seen = np.concatenate([keep[mine] >= ratio, np.ones_like(keep[mine], dtype=bool)])
    palette = augmentations is not None and augmentations.palette_permutation
    device = table.device

    def part(places: Integers, masked: bool) -> TokenBatch:
        tokens = table.tokens(grids[places])
        if palette:
            tokens = recolored(tokens, torch.from_numpy(own_names[places]).to(device))
        if masked:
            shown = torch.from_numpy(seen[places, : tokens.present.shape[1]]).to(device)
            tokens = hidden(tokens, shown)
        return tokens

    chosen = table.by_size(grids)
    half = len(pairs)
    outputs = [places + half for places in table.by_size(grids[half:])]
    return Batch(
        [part(places, augmentations is not None) for places in chosen],
        torch.from_numpy(np.concatenate(chosen)).to(device),
        torch.from_numpy(tasks).to(device),
        [part(places, False) for places in outputs],
        torch.from_numpy(np.concatenate(outputs) - half).to(device),
        [np.concatenate([np.flatnonzero(mine), np.flatnonzero(mine) + number])[places] for places in chosen],
        2 * number,
    )


def _renamings(draws: npt.NDArray[np.float64]) -> Integers:
    """(n, 10) permutations of the colours that leave black, which is the ground of most grids, as it is."""
    draws[:, 0] = -1.0
    return draws.argsort(axis=1)


def changed(batch: Batch, change: str, rng: np.random.Generator) -> list[TokenBatch]:
    """A batch's parts with every grid changed at random: "color", "translation" or "symmetry"."""
    draws = rng.random((batch.total, 10))  # for the grids of all processes
    found = []
    for part, places in zip(batch.parts, batch.places, strict=True):
        own, device = draws[places], part.grids.device
        if change == "color":
            found.append(recolored(part, torch.from_numpy(_renamings(own)).to(device)))
        elif change == "translation":
            found.append(moved(part, torch.from_numpy(own[:, :2].astype(np.float32)).to(device)))
        else:
            found.append(turned(part, *torch.from_numpy(own[:, :3].T < 0.5).to(device)))
    return found


@lru_cache(maxsize=1)  # every step asks for its epoch's
def epoch_order(seed: int, epoch: int, count: int, purpose: str = "jepa epoch") -> Integers:
    """(count,) the order of an epoch, to be read only."""
    return generator_for(seed, purpose, epoch).permutation(count)
