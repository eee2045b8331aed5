"""Batches of pairs as tokens on a device. B pairs, G = 2 B grids, M objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arc_core.randomness import generator_for
from arc_core.transfer import upload
from jepa_hrl.jepa.config import AugmentationConfig
from jepa_hrl.jepa.data.augment import Tokens, recolor, rotate, translate
from jepa_hrl.jepa.data.token_table import TokenTable
from jepa_hrl.jepa.model.packed_attention import make_sequences, plan_sequences
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
        plan = self.plan(grids)
        return self.gather(plan, upload(plan.arrays(), self.device))

    def plan(self, grids: Integers) -> "TokenPlan":
        """Plans on the host which rows of the table the tokens of some grids are."""
        counts = self._counts[grids]
        shifts = self.table.starts[grids] - (counts.cumsum() - counts)
        return TokenPlan(grids, np.arange(counts.sum()) + np.repeat(shifts, counts), counts)

    def gather(self, plan: "TokenPlan", arrays: Sequence[Tensor]) -> Tokens:
        """Gathers the tokens of a plan.

        Args:
            plan: which tokens.
            arrays: those of `TokenPlan.arrays`, on the device.
        """
        rows, owners, indices, *layout = arrays
        return Tokens(
            self._objects.index_select(0, rows).float(), owners, self._grids.index_select(0, indices).float(),
            make_sequences(plan.counts, layout),
        )  # fmt: skip


@dataclass(frozen=True)
class TokenPlan:
    """The tokens of G grids as rows of a table.

    Attributes:
        grids: (G,) indices of the grids.
        rows: (M,) rows of their objects, grid after grid.
        counts: (G,) objects of each grid.
    """

    grids: Integers
    rows: Integers
    counts: Integers

    @property
    def owners(self) -> Integers:
        """(M,) index within the plan of each object's grid."""
        return np.repeat(np.arange(len(self.grids)), self.counts)

    def select(self, keep: npt.NDArray[np.bool_]) -> "TokenPlan":
        """Returns the plan of the objects that are kept, (M,)."""
        counts = np.bincount(self.owners[keep], minlength=len(self.grids))
        return TokenPlan(self.grids, self.rows[keep], counts)

    def arrays(self) -> list[Integers]:
        """Returns what `DeviceTable.gather` needs on the device."""
        return [self.rows, self.owners, self.grids, *plan_sequences(self.counts)]


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
        global_owners: (M,) index of each object's grid among those of all processes.
    """

    tokens: Tokens
    tasks: Tensor
    targets: Tokens
    grid_indices: Integers
    num_grids: int
    global_owners: Tensor


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
    plan, target_plan = table.plan(np.concatenate([2 * pairs, 2 * pairs + 1])), table.plan(2 * pairs + 1)
    if augmentations is not None and augmentations.mask_ratio:
        plan = plan.select(_keep_flags(plan.owners, draws[mine] >= augmentations.mask_ratio))
    first = np.flatnonzero(mine)
    grid_indices = np.concatenate([first, first + num_pairs])
    planned = plan.arrays()
    host_arrays = [tasks, permutations[mine], grid_indices[plan.owners], *planned, *target_plan.arrays()]
    task_indices, own, global_owners, *arrays = upload(host_arrays, table.device)
    tokens = table.gather(plan, arrays[: len(planned)])
    targets = table.gather(target_plan, arrays[len(planned) :])
    if augmentations is not None and augmentations.palette_permutation:
        tokens, targets = recolor(tokens, torch.cat([own, own])), recolor(targets, own)
    return Batch(tokens, task_indices, targets, grid_indices, 2 * num_pairs, global_owners)


def _keep_flags(owners: Integers, keep_inputs: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Returns (M,) which objects are kept: all objects of outputs, and some of inputs.

    Args:
        owners: (M,) index of each object's grid, of the B inputs followed by the outputs.
        keep_inputs: (B, MAX_OBJECTS) which objects of the inputs are kept.
    """
    within = np.arange(len(owners)) - np.searchsorted(owners, owners)
    keep: npt.NDArray[np.bool_] = np.concatenate([keep_inputs, np.ones_like(keep_inputs)])[owners, within]
    return keep


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
        return recolor(tokens, *upload([_color_permutations(draws)], device))
    if kind == "translation":
        return translate(tokens, *upload([draws[:, :2].astype(np.float32)], device))
    transpose, up_down, left_right = upload(list(draws[:, :3].T < 0.5), device)
    return rotate(tokens, transpose, up_down, left_right)


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
