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
    """A token table whose tokens lie on a device."""

    def __init__(self, table: TokenTable, device: torch.device) -> None:
        self.table, self.device = table, device
        self._objects = torch.from_numpy(table.objects).to(device)
        self._grids = torch.from_numpy(table.grids).to(device)
        self._counts = np.diff(table.starts)

    def tokens(self, grids: Integers) -> Tokens:
        """Returns the tokens of the grids with some indices."""
        counts = self._counts[grids]
        shifts = self.table.starts[grids] - (counts.cumsum() - counts)
        rows = torch.from_numpy(np.arange(counts.sum()) + np.repeat(shifts, counts)).to(self.device)
        owners = torch.from_numpy(np.repeat(np.arange(len(grids)), counts)).to(self.device)
        indices = torch.from_numpy(grids).to(self.device)
        return Tokens(self._objects.index_select(0, rows).float(), owners, self._grids.index_select(0, indices).float())


@dataclass(frozen=True)
class PairSample:
    """The pairs of a batch, over all processes.

    Attributes:
        pairs: (B,) indices of pairs in the token table, those of a task one after another.
        tasks: (B,) index within the batch of the task that each pair is of.
    """

    pairs: Integers
    tasks: Integers


def draw_pairs(table: TokenTable, tasks: Integers, max_pairs: int, rng: np.random.Generator) -> PairSample:
    """Draws the same number of random pairs from each of some tasks.

    Args:
        table: that the tasks are in.
        tasks: (n,) indices of tasks.
        max_pairs: pairs of a task, or as many as the task with the fewest pairs has.
        rng: what the pairs are drawn with.
    """
    starts, counts = table.tasks[tasks], np.diff(table.tasks)[tasks]
    per_task = min(max_pairs, int(counts.min()))
    ranks = rng.random((len(tasks), int(counts.max())))
    ranks[np.arange(ranks.shape[1]) >= counts[:, None]] = 2.0
    within = np.sort(ranks.argsort(axis=1)[:, :per_task], axis=1)
    return PairSample((starts[:, None] + within).ravel(), np.repeat(np.arange(len(tasks)), per_task))


@dataclass(frozen=True)
class Batch:
    """What one process computes on.

    Attributes:
        tokens: of the inputs followed by the outputs, as the context encoder sees them.
        tasks: (B,) index of the task that each pair is of.
        targets: the outputs' tokens as the target encoder sees them.
        grid_indices: (G,) indices of the grids among those of all processes.
        num_grids: grids of all processes.
    """

    tokens: Tokens
    tasks: Tensor
    targets: Tokens
    grid_indices: Integers
    num_grids: int

    @property
    def global_owners(self) -> Tensor:
        """(M,) index of each object's grid among those of all processes."""
        owners = self.tokens.owners
        return torch.from_numpy(self.grid_indices).to(owners.device)[owners]


def make_batch(
    table: DeviceTable, sample: PairSample, augmentations: AugmentationConfig | None, rng: np.random.Generator,
    share: slice,
) -> Batch:  # fmt: skip
    """Builds this process's share of a batch.

    Args:
        table: tokens of all grids.
        sample: the pairs of the whole batch.
        augmentations: what is changed at random; None for nothing.
        rng: draws for the whole batch, so that every process sees what a single one would.
        share: of the batch's tasks, which this process computes on.
    """
    num_pairs, num_tasks = len(sample.pairs), int(sample.tasks.max()) + 1
    permutations = _color_permutations(rng.random((num_tasks, 10)))[sample.tasks]
    draws = rng.random((num_pairs, MAX_OBJECTS))
    mine = np.isin(sample.tasks, np.arange(num_tasks)[share])
    pairs, tasks = sample.pairs[mine], np.unique(sample.tasks[mine], return_inverse=True)[1]
    tokens, targets = table.tokens(np.concatenate([2 * pairs, 2 * pairs + 1])), table.tokens(2 * pairs + 1)
    if augmentations is not None and augmentations.palette_permutation:
        own = torch.from_numpy(permutations[mine]).to(table.device)
        tokens, targets = recolor(tokens, torch.cat([own, own])), recolor(targets, own)
    if augmentations is not None and augmentations.mask_ratio:
        tokens = mask(tokens, _keep_flags(tokens, draws[mine] >= augmentations.mask_ratio))
    first = np.flatnonzero(mine)
    grid_indices = np.concatenate([first, first + num_pairs])
    return Batch(tokens, torch.from_numpy(tasks).to(table.device), targets, grid_indices, 2 * num_pairs)


def _keep_flags(tokens: Tokens, keep_inputs: npt.NDArray[np.bool_]) -> Tensor:
    """Returns (M,) which objects are kept: all objects of outputs, and some of inputs.

    Args:
        tokens: of the B inputs followed by the outputs.
        keep_inputs: (B, MAX_OBJECTS) which objects of the inputs are kept.
    """
    owners = tokens.owners.cpu().numpy()
    within = np.arange(len(owners)) - np.searchsorted(owners, owners)
    keep = np.concatenate([keep_inputs, np.ones_like(keep_inputs)])[owners, within]
    return torch.from_numpy(keep).to(tokens.owners.device)


def _color_permutations(draws: npt.NDArray[np.float64]) -> Integers:
    """Turns (n, 10) draws into permutations of the colours that leave black, the ground of most grids, as it is."""
    draws[:, 0] = -1.0
    return draws.argsort(axis=1)


def augment(batch: Batch, kind: str, rng: np.random.Generator) -> Tokens:
    """Changes every grid of a batch at random.

    Args:
        batch: what is changed.
        kind: "color", "translation" or "symmetry".
        rng: draws for the grids of all processes.
    Returns:
        The tokens of the changed grids, inputs first.
    """
    draws = rng.random((batch.num_grids, 10))[batch.grid_indices]
    tokens, device = batch.tokens, batch.tokens.grids.device
    if kind == "color":
        return recolor(tokens, torch.from_numpy(_color_permutations(draws)).to(device))
    if kind == "translation":
        return translate(tokens, torch.from_numpy(draws[:, :2].astype(np.float32)).to(device))
    return rotate(tokens, *torch.from_numpy(draws[:, :3].T < 0.5).to(device))


@lru_cache(maxsize=1)  # every step asks for its epoch's
def epoch_order(seed: int, epoch: int, count: int, purpose: str = "jepa epoch") -> Integers:
    """Returns a random order of an epoch's units, which must not be written to.

    Args:
        seed: of the run.
        epoch: index of the epoch.
        count: units of an epoch.
        purpose: tells the random stream from those of other uses of the seed.
    """
    return generator_for(seed, purpose, epoch).permutation(count)
