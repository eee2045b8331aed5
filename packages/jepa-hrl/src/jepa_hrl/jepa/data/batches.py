"""Batches of pairs as tokens on a device. B pairs, G = 2 B grids, M objects."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arc_core.randomness import generator_for
from jepa_hrl.jepa.config import AugmentationConfig
from jepa_hrl.jepa.data.augment import Tokens, mask, recolor, rotate, translate
from jepa_hrl.jepa.data.token_table import TokenTable
from jepa_hrl.objects.tokens import MAX_OBJECTS

Integers = npt.NDArray[np.int64]


class DeviceTable:
    """A token table on a device."""

    def __init__(self, table: TokenTable, device: torch.device) -> None:
        self.table, self.device = table, device
        self._objects = torch.from_numpy(table.objects).to(device)
        self._grids = torch.from_numpy(table.grids).to(device)
        self._counts = np.diff(table.starts)

    def tokens(self, grids: Integers) -> Tokens:
        """The tokens of some grids."""
        counts = self._counts[grids]
        shifts = self.table.starts[grids] - (counts.cumsum() - counts)
        rows = torch.from_numpy(np.arange(counts.sum()) + np.repeat(shifts, counts)).to(self.device)
        owners = torch.from_numpy(np.repeat(np.arange(len(grids)), counts)).to(self.device)
        chosen = torch.from_numpy(grids).to(self.device)
        return Tokens(self._objects.index_select(0, rows).float(), owners, self._grids.index_select(0, chosen).float())


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
        tokens: of the inputs followed by the outputs, as the context encoder sees them.
        tasks: (B,) which task each pair is of.
        targets: the outputs' tokens as the target encoder sees them.
        places: (G,) of the grids among those of all processes, of which there are `total`.
    """

    tokens: Tokens
    tasks: Tensor
    targets: Tokens
    places: Integers
    total: int

    @property
    def owner_places(self) -> Tensor:
        """(M,) the grid of each object among those of all processes."""
        owners = self.tokens.owners
        return torch.from_numpy(self.places).to(owners.device)[owners]


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
    keep = rng.random((number, MAX_OBJECTS))
    mine = np.isin(drawn.tasks, np.arange(count)[share])
    pairs, tasks = drawn.pairs[mine], np.unique(drawn.tasks[mine], return_inverse=True)[1]
    tokens, targets = table.tokens(np.concatenate([2 * pairs, 2 * pairs + 1])), table.tokens(2 * pairs + 1)
    if augmentations is not None and augmentations.palette_permutation:
        own = torch.from_numpy(names[mine]).to(table.device)
        tokens, targets = recolor(tokens, torch.cat([own, own])), recolor(targets, own)
    if augmentations is not None and augmentations.mask_ratio:
        tokens = mask(tokens, _kept(tokens, keep[mine] >= augmentations.mask_ratio))
    first = np.flatnonzero(mine)
    return Batch(
        tokens, torch.from_numpy(tasks).to(table.device), targets, np.concatenate([first, first + number]), 2 * number
    )


def _kept(tokens: Tokens, inputs: npt.NDArray[np.bool_]) -> Tensor:
    """(M,) which objects are kept, all those of outputs among them.

    Args:
        inputs: (B, MAX_OBJECTS) which objects of the inputs are.
    """
    owners = tokens.owners.cpu().numpy()
    numbers = np.arange(len(owners)) - np.searchsorted(owners, owners)
    kept = np.concatenate([inputs, np.ones_like(inputs)])[owners, numbers]
    return torch.from_numpy(kept).to(tokens.owners.device)


def _renamings(draws: npt.NDArray[np.float64]) -> Integers:
    """(n, 10) permutations of the colours that leave black, which is the ground of most grids, as it is."""
    draws[:, 0] = -1.0
    return draws.argsort(axis=1)


def changed(batch: Batch, change: str, rng: np.random.Generator) -> Tokens:
    """A batch's tokens with every grid changed at random: "color", "translation" or "symmetry"."""
    draws = rng.random((batch.total, 10))[batch.places]  # for the grids of all processes
    tokens, device = batch.tokens, batch.tokens.grids.device
    if change == "color":
        return recolor(tokens, torch.from_numpy(_renamings(draws)).to(device))
    if change == "translation":
        return translate(tokens, torch.from_numpy(draws[:, :2].astype(np.float32)).to(device))
    return rotate(tokens, *torch.from_numpy(draws[:, :3].T < 0.5).to(device))


@lru_cache(maxsize=1)  # every step asks for its epoch's
def epoch_order(seed: int, epoch: int, count: int, purpose: str = "jepa epoch") -> Integers:
    """(count,) the order of an epoch, to be read only."""
    return generator_for(seed, purpose, epoch).permutation(count)
