"""Queries, the canvases they are answered on, and the inputs that training and solving both build here.

B batch, N demonstrations, S canvas side. A query is a pair of a task whose output is asked for, the pairs shown
with it, and a view.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arc_core.augment import NUM_DIHEDRAL, View, random_color_tables
from arc_core.extents import Ints, answer_extents, grow_extent, transform_extents
from arc_core.grid import MAX_SIDE, NUM_COLORS
from arc_core.randomness import generator_for
from arc_core.sampling import BatchPlan
from arc_core.tensors import NO_GRID, TaskTensors, canvas_for
from rlan.config import DataConfig

NO_PAIR = -1


class Inputs(NamedTuple):
    """What the model reads.

    Attributes:
        query: (B, S, S) uint8 test input.
        query_size: (B, 2) int64 its height and width.
        live: (B, 2) int64 extent in which the answer is sought, a ring of outside cells included.
        demos: (B, N, 2, S, S) uint8 inputs and outputs shown.
        demo_sizes: (B, N, 2, 2) int64.
        demo_mask: (B, N) bool.
    """

    query: Tensor
    query_size: Tensor
    live: Tensor
    demos: Tensor
    demo_sizes: Tensor
    demo_mask: Tensor


@dataclass(frozen=True)
class Queries:
    """Queries as numbers into a TaskTensors, all arrays with B rows.

    Attributes:
        pairs: (B,) the pair whose output is asked for.
        demos: (B, N) the pairs shown, NO_PAIR for none; at least one a row.
        elements: (B,) dihedral elements.
        colors: (B, 10) uint8 colour tables.
        live: (B, 2) extent of the answer's canvas, already turned.
    """

    pairs: Ints
    demos: Ints
    elements: Ints
    colors: npt.NDArray[np.uint8]
    live: Ints

    def __len__(self) -> int:
        return len(self.pairs)

    def rows(self, index: npt.NDArray[np.int64]) -> "Queries":
        """Some of them."""
        return Queries(self.pairs[index], self.demos[index], self.elements[index], self.colors[index], self.live[index])

    def grown(self) -> "Queries":
        """The same on larger canvases."""
        return replace(self, live=grow_extent(self.live))

    def trimmed(self) -> "Queries":
        """The same without the last columns of demonstrations that no query has."""
        shown = (self.demos >= 0).any(axis=0)
        return replace(self, demos=self.demos[:, : max(1, int(shown.sum()))])

    def costs(self, tensors: TaskTensors) -> Ints:
        """(B,) sort keys: by canvas, then by number of demonstrations, so that batches have little padding."""
        keys: Ints = self.canvases(tensors) * (self.demos.shape[1] + 1) + (self.demos >= 0).sum(axis=1)
        return keys

    def canvases(self, tensors: TaskTensors) -> Ints:
        """(B,) the canvas side that holds everything a query needs."""
        shown = np.stack([2 * self.demos, 2 * self.demos + 1], axis=-1)  # (B, N, 2)
        sides = tensors.grid_sizes[np.maximum(shown, 0)].max(axis=-1) * (shown >= 0)
        longest = np.maximum(self.live.max(axis=1), sides.max(axis=(1, 2), initial=1))
        longest = np.maximum(longest, tensors.grid_sizes[2 * self.pairs].max(axis=1))
        canvases: Ints = _CANVAS[longest]
        return canvases


_CANVAS = np.array([0, *(canvas_for(side) for side in range(1, MAX_SIDE + 1))], dtype=np.int64)


def training_extents(tensors: TaskTensors, pairs: Ints, demos: Ints, elements: Ints) -> Ints:
    """(B, 2) turned extents that hold the answers too: where one does not fit with its ring, the extent grows as it
    would when solving."""
    live = transform_extents(answer_extents(tensors, pairs, demos), elements)
    targets = transform_extents(tensors.grid_sizes[2 * pairs + 1], elements)
    small = np.any((targets + 1 > live) & (live < MAX_SIDE), axis=1)
    while small.any():
        live = np.where(small[:, None], grow_extent(live), live)
        small = np.any((targets + 1 > live) & (live < MAX_SIDE), axis=1)
    return live


def build_inputs(tensors: TaskTensors, queries: Queries, side: int) -> Inputs:
    """The inputs of queries on canvases of one side; training, validation and solving all come here."""
    device = tensors.rows.device
    batch, number = queries.demos.shape
    shown = np.stack([2 * queries.demos, 2 * queries.demos + 1], axis=-1).reshape(batch, -1)
    grids = np.concatenate([2 * queries.pairs[:, None], np.where(shown >= 0, shown, NO_GRID)], axis=1)  # (B, 1 + 2N)
    width = grids.shape[1]
    canvas, sizes = tensors.gather(
        torch.from_numpy(grids.ravel()).to(device),
        torch.from_numpy(queries.elements.repeat(width)).to(device),
        torch.from_numpy(queries.colors.repeat(width, axis=0)).to(device),
        side,
    )
    canvas, sizes = canvas.view(batch, width, side, side), sizes.view(batch, width, 2)
    return Inputs(
        canvas[:, 0],
        sizes[:, 0],
        torch.from_numpy(queries.live).to(device),
        canvas[:, 1:].reshape(batch, number, 2, side, side),
        sizes[:, 1:].reshape(batch, number, 2, 2),
        torch.from_numpy(queries.demos >= 0).to(device),
    )


def build_targets(tensors: TaskTensors, queries: Queries, side: int) -> tuple[Tensor, Tensor]:
    """(B, S, S) uint8 outputs of the queries, OUTSIDE past them, and their (B, 2) sizes; for trainers alone."""
    device = tensors.rows.device
    return tensors.gather(
        torch.from_numpy(2 * queries.pairs + 1).to(device),
        torch.from_numpy(queries.elements).to(device),
        torch.from_numpy(queries.colors).to(device),
        side,
    )


def solving_queries(tensors: TaskTensors, tasks: Sequence[int], max_demonstrations: int, view: View) -> Queries:
    """Every test input of some tasks with the first demonstrations, in one view, in order."""
    pairs, demos = [], []
    for task in tasks:
        first, end = int(tensors.first_pair[task]), int(tensors.first_pair[task + 1])
        count = int(tensors.num_train[task])
        shown = np.full(max_demonstrations, NO_PAIR, dtype=np.int64)
        shown[: min(count, max_demonstrations)] = np.arange(first, first + min(count, max_demonstrations))
        for pair in range(first + count, end):
            pairs.append(pair)
            demos.append(shown)
    asked, shown_with = np.array(pairs, dtype=np.int64), np.array(demos, dtype=np.int64)
    elements = np.full(len(pairs), view.dihedral, dtype=np.int64)
    live = transform_extents(answer_extents(tensors, asked, shown_with), elements)
    return Queries(asked, shown_with, elements, np.tile(np.array(view.colors, dtype=np.uint8), (len(pairs), 1)), live)


@dataclass(frozen=True)
class QuerySampler:
    """Training queries as a pure function of (seed, epoch): any pair of a task can be asked, the others shown.

    Attributes:
        tensors: training tasks with all answers.
        data: how many and which views.
        batch_size: queries of a global batch.
        seed: the run's.
    """

    tensors: TaskTensors
    data: DataConfig
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "_epoch", lru_cache(maxsize=2)(self._draw))

    @property
    def plan(self) -> BatchPlan:
        """Which of an epoch's queries make each batch."""
        count = len(self.tensors.num_train) * self.data.samples_per_task
        return BatchPlan(lambda epoch: self.epoch(epoch).costs(self.tensors), count, self.batch_size, self.seed)

    def epoch(self, epoch: int) -> Queries:
        """All queries of an epoch, `samples_per_task` of each task; the same in every epoch when cached."""
        queries: Queries = self._epoch(0 if self.data.cache_samples else epoch)  # type: ignore[attr-defined]  # above
        return queries

    def _draw(self, epoch: int) -> Queries:
        rng = generator_for(self.seed, "queries", epoch)
        tasks = np.repeat(np.arange(len(self.tensors.num_train)), self.data.samples_per_task)
        first = self.tensors.first_pair[tasks]
        counts = self.tensors.first_pair[tasks + 1] - first
        # A random order of each task's pairs: the first is asked, those after it are shown.
        keys = rng.random((len(tasks), int(counts.max())))
        keys[np.arange(keys.shape[1]) >= counts[:, None]] = 2.0
        order = np.argsort(keys, axis=1)
        most = np.minimum(counts - 1, self.data.max_demonstrations)
        shown = most
        if self.data.vary_demonstrations:  # half of the queries show all they may, the others any number from one
            shown = np.where(rng.random(len(tasks)) < 0.5, most, rng.integers(1, most, endpoint=True))
        width = min(self.data.max_demonstrations, order.shape[1] - 1)
        demos = np.where(np.arange(width) < shown[:, None], first[:, None] + order[:, 1 : 1 + width], NO_PAIR)
        pairs = first + order[:, 0]
        elements, colors = self._views(rng, len(tasks))
        return Queries(pairs, demos, elements, colors, training_extents(self.tensors, pairs, demos, elements))

    def _views(self, rng: np.random.Generator, count: int) -> tuple[Ints, npt.NDArray[np.uint8]]:
        views = self.data.augmentation
        elements = rng.integers(NUM_DIHEDRAL, size=count) * int(views.dihedral)
        fixed = random_color_tables(rng, count)
        free = random_color_tables(rng, count, fix_background=False)
        tables = np.where(rng.random((count, 1)) < views.permute_background_prob, free, fixed)
        renamed = rng.random((count, 1)) < views.color_permutation_prob * views.color_permutation
        return elements, np.where(renamed, tables, np.arange(NUM_COLORS, dtype=np.uint8))
