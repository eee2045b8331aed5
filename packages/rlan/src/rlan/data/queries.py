"""Queries and the tensors that the model reads for them. Training, validation and solving all build their inputs here.

A query is a pair of a task whose output is asked for, the demonstrations shown with it, and a view (a dihedral element
and a colour permutation). B batch, N demonstrations, S canvas side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from arc_core.augment import NUM_DIHEDRAL, View, random_color_tables
from arc_core.extents import Ints, answer_extents, grow_extent, transform_extents
from arc_core.grid import MAX_SIDE, NUM_COLORS
from arc_core.randomness import generator_for
from arc_core.sampling import BatchPlan
from arc_core.tensors import NO_GRID, TaskTensors, canvas_for
from arc_core.transfer import upload
from rlan.config import DataConfig

NO_PAIR = -1


class Inputs(NamedTuple):
    """A batch of queries as the model reads them.

    Attributes:
        query: (B, S, S) uint8 test input.
        query_size: (B, 2) int64 height and width of the test input.
        answer_extent: (B, 2) int64 height and width of the area in which the answer is sought, one ring of outside
            cells included.
        demos: (B, N, 2, S, S) uint8 inputs and outputs of the demonstrations.
        demo_sizes: (B, N, 2, 2) int64 heights and widths of these grids.
        demo_mask: (B, N) bool, false for padding.
    """

    query: Tensor
    query_size: Tensor
    answer_extent: Tensor
    demos: Tensor
    demo_sizes: Tensor
    demo_mask: Tensor


@dataclass(frozen=True)
class Queries:
    """A batch of queries as indices into a TaskTensors; every array has B rows.

    Attributes:
        pairs: (B,) index of the pair whose output is asked for.
        demos: (B, N) indices of the pairs shown, at least one a row; NO_PAIR is padding.
        elements: (B,) dihedral elements, 0..7.
        colors: (B, 10) uint8 colour permutations: new colour of each old one.
        answer_extent: (B, 2) area in which the answer is sought, in the orientation of the view.
    """

    pairs: Ints
    demos: Ints
    elements: Ints
    colors: npt.NDArray[np.uint8]
    answer_extent: Ints

    def __len__(self) -> int:
        return len(self.pairs)

    def select(self, rows: npt.NDArray[np.int64]) -> "Queries":
        """Returns the queries of some rows, in their order."""
        return Queries(
            self.pairs[rows], self.demos[rows], self.elements[rows], self.colors[rows], self.answer_extent[rows]
        )

    def grow_canvases(self) -> "Queries":
        """Returns the same queries with half as much again of answer extent, for answers that may be cut off."""
        return replace(self, answer_extent=grow_extent(self.answer_extent))

    def trim_padding(self) -> "Queries":
        """Returns the same queries without the columns of demonstrations that are padding in every row."""
        shown = (self.demos >= 0).any(axis=0)
        return replace(self, demos=self.demos[:, : max(1, int(shown.sum()))])

    def sort_keys(self, tensors: TaskTensors) -> Ints:
        """Returns (B,) keys by canvas side, then by number of demonstrations: sorted batches have little padding."""
        keys: Ints = self.canvas_sides(tensors) * (self.demos.shape[1] + 1) + (self.demos >= 0).sum(axis=1)
        return keys

    def canvas_sides(self, tensors: TaskTensors) -> Ints:
        """Returns (B,) the side of the smallest canvas that holds all grids and the answer extent of each query."""
        shown = np.stack([2 * self.demos, 2 * self.demos + 1], axis=-1)  # (B, N, 2)
        sides = tensors.grid_sizes[np.maximum(shown, 0)].max(axis=-1) * (shown >= 0)
        longest = np.maximum(self.answer_extent.max(axis=1), sides.max(axis=(1, 2), initial=1))
        longest = np.maximum(longest, tensors.grid_sizes[2 * self.pairs].max(axis=1))
        canvas_sides: Ints = _CANVAS_SIDES[longest]
        return canvas_sides


_CANVAS_SIDES = np.array([0, *(canvas_for(side) for side in range(1, MAX_SIDE + 1))], dtype=np.int64)


def training_extents(tensors: TaskTensors, pairs: Ints, demos: Ints, elements: Ints) -> Ints:
    """Returns answer extents that hold the true answers and their ring; they grow in the same steps as when solving.

    Args:
        tensors: tasks with all answers.
        pairs: (B,) pairs whose output is asked for.
        demos: (B, N) pairs shown, NO_PAIR for padding.
        elements: (B,) dihedral elements.
    Returns:
        (B, 2) int64, in the orientation of the view.
    """
    answer_extent = transform_extents(answer_extents(tensors, pairs, demos), elements)
    targets = transform_extents(tensors.grid_sizes[2 * pairs + 1], elements)
    too_small = np.any((targets + 1 > answer_extent) & (answer_extent < MAX_SIDE), axis=1)
    while too_small.any():
        answer_extent = np.where(too_small[:, None], grow_extent(answer_extent), answer_extent)
        too_small = np.any((targets + 1 > answer_extent) & (answer_extent < MAX_SIDE), axis=1)
    return answer_extent


def build_inputs(tensors: TaskTensors, queries: Queries, side: int) -> Inputs:
    """Returns the inputs of queries on canvases of one side.

    Args:
        tensors: the tasks that the queries index.
        queries: B queries.
        side: S, at least the largest of the queries' `canvas_sides`.
    """
    return _build(tensors, queries, _query_grids(queries), side)[0]


def build_inputs_and_targets(tensors: TaskTensors, queries: Queries, side: int) -> tuple[Inputs, Tensor, Tensor]:
    """Returns the inputs and the true answers of queries, gathered together; for training alone.

    Args:
        tensors: tasks with all answers.
        queries: B queries.
        side: S, at least the largest of the queries' `canvas_sides`.
    Returns:
        The inputs, and what `build_targets` returns.
    """
    grids = np.concatenate([_query_grids(queries), 2 * queries.pairs[:, None] + 1], axis=1)
    inputs, canvas, sizes = _build(tensors, queries, grids, side)
    return inputs, canvas[:, -1], sizes[:, -1]


def _query_grids(queries: Queries) -> Ints:
    """Returns (B, 1 + 2N) indices of grids: the test input, then inputs and outputs of the demonstrations."""
    shown = np.stack([2 * queries.demos, 2 * queries.demos + 1], axis=-1).reshape(len(queries), -1)
    grids: Ints = np.concatenate([2 * queries.pairs[:, None], np.where(shown >= 0, shown, NO_GRID)], axis=1)
    return grids


def _build(tensors: TaskTensors, queries: Queries, grids: Ints, side: int) -> tuple[Inputs, Tensor, Tensor]:
    """Gathers grids of queries, all in the query's view.

    Args:
        tensors: the tasks that the queries index.
        queries: B queries.
        grids: (B, W) indices of grids, those of `_query_grids` first.
        side: S.
    Returns:
        The inputs, (B, W, S, S) canvases and (B, W, 2) sizes of all grids.
    """
    batch, num_demos = queries.demos.shape
    width, demo_end = grids.shape[1], 1 + 2 * num_demos
    arrays = (
        grids.ravel(), queries.elements.repeat(width), queries.colors.repeat(width, axis=0), queries.answer_extent,
        queries.demos >= 0,
    )  # fmt: skip
    indices, elements, colors, answer_extent, demo_mask = upload(arrays, tensors.rows.device)
    canvas, sizes = tensors.gather(indices, elements, colors, side)
    canvas, sizes = canvas.view(batch, width, side, side), sizes.view(batch, width, 2)
    inputs = Inputs(
        canvas[:, 0],
        sizes[:, 0],
        answer_extent,
        canvas[:, 1:demo_end].reshape(batch, num_demos, 2, side, side),
        sizes[:, 1:demo_end].reshape(batch, num_demos, 2, 2),
        demo_mask,
    )
    return inputs, canvas, sizes


def build_targets(tensors: TaskTensors, queries: Queries, side: int) -> tuple[Tensor, Tensor]:
    """Returns the true answers of queries; for training and scoring only.

    Args:
        tensors: tasks with all answers.
        queries: B queries.
        side: S, at least the largest of the queries' `canvas_sides`.
    Returns:
        cells: (B, S, S) uint8, OUTSIDE past the answer.
        sizes: (B, 2) int64 heights and widths.
    """
    arrays = (2 * queries.pairs + 1, queries.elements, queries.colors)
    grids, elements, colors = upload(arrays, tensors.rows.device)
    return tensors.gather(grids, elements, colors, side)


def build_test_queries(tensors: TaskTensors, tasks: Sequence[int], max_demonstrations: int, view: View) -> Queries:
    """Returns one query for every test input of some tasks, in order, with the first demonstrations.

    Args:
        tensors: tasks, with or without test outputs.
        tasks: indices of the tasks to answer.
        max_demonstrations: N, the number of demonstrations shown where a task has as many.
        view: the view of all queries.
    """
    pairs, demos = [], []
    for task in tasks:
        first, end = int(tensors.first_pair[task]), int(tensors.first_pair[task + 1])
        count = int(tensors.num_train[task])
        shown = np.full(max_demonstrations, NO_PAIR, dtype=np.int64)
        shown[: min(count, max_demonstrations)] = np.arange(first, first + min(count, max_demonstrations))
        for pair in range(first + count, end):
            pairs.append(pair)
            demos.append(shown)
    pair_indices, demo_indices = np.array(pairs, dtype=np.int64), np.array(demos, dtype=np.int64)
    elements = np.full(len(pairs), view.dihedral, dtype=np.int64)
    colors = np.tile(np.array(view.colors, dtype=np.uint8), (len(pairs), 1))
    answer_extent = transform_extents(answer_extents(tensors, pair_indices, demo_indices), elements)
    return Queries(pair_indices, demo_indices, elements, colors, answer_extent)


@dataclass(frozen=True)
class QuerySampler:
    """Draws training queries as a pure function of (seed, epoch): any pair of a task may be the query, the others are
    its demonstrations.

    Attributes:
        tensors: training tasks with all answers.
        data: number of queries and of demonstrations, and the augmentation.
        batch_size: queries of one optimiser step, over all processes.
        seed: seed of the run.
    """

    tensors: TaskTensors
    data: DataConfig
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "_epoch", lru_cache(maxsize=2)(self._draw_epoch))

    @property
    def plan(self) -> BatchPlan:
        """Plan that assigns the queries of an epoch to batches."""
        count = len(self.tensors.num_train) * self.data.samples_per_task
        return BatchPlan(
            lambda epoch: self.epoch_queries(epoch).sort_keys(self.tensors), count, self.batch_size, self.seed
        )

    def epoch_queries(self, epoch: int) -> Queries:
        """Returns all queries of an epoch, `samples_per_task` for each task; every epoch has the same when cached."""
        queries: Queries = self._epoch(0 if self.data.cache_samples else epoch)  # type: ignore[attr-defined]  # above
        return queries

    def _draw_epoch(self, epoch: int) -> Queries:
        rng = generator_for(self.seed, "queries", epoch)
        tasks = np.repeat(np.arange(len(self.tensors.num_train)), self.data.samples_per_task)
        first = self.tensors.first_pair[tasks]
        counts = self.tensors.first_pair[tasks + 1] - first
        # A random order of each task's pairs: the first is the query, those after it its demonstrations.
        keys = rng.random((len(tasks), int(counts.max())))
        keys[np.arange(keys.shape[1]) >= counts[:, None]] = 2.0
        order = np.argsort(keys, axis=1)
        max_shown = np.minimum(counts - 1, self.data.max_demonstrations)
        shown = max_shown
        if self.data.vary_demonstrations:  # half of the queries show all, the others any number
            shown = np.where(rng.random(len(tasks)) < 0.5, max_shown, rng.integers(1, max_shown, endpoint=True))
        width = min(self.data.max_demonstrations, order.shape[1] - 1)
        demos = np.where(np.arange(width) < shown[:, None], first[:, None] + order[:, 1 : 1 + width], NO_PAIR)
        pairs = first + order[:, 0]
        elements, colors = self._draw_views(rng, len(tasks))
        return Queries(pairs, demos, elements, colors, training_extents(self.tensors, pairs, demos, elements))

    def _draw_views(self, rng: np.random.Generator, count: int) -> tuple[Ints, npt.NDArray[np.uint8]]:
        """Returns (count,) dihedral elements and (count, 10) colour permutations."""
        augmentation = self.data.augmentation
        elements = rng.integers(NUM_DIHEDRAL, size=count) * int(augmentation.dihedral)
        with_fixed_background = random_color_tables(rng, count)
        with_any_background = random_color_tables(rng, count, fix_background=False)
        permutes_background = rng.random((count, 1)) < augmentation.permute_background_prob
        tables = np.where(permutes_background, with_any_background, with_fixed_background)
        is_permuted = rng.random((count, 1)) < augmentation.color_permutation_prob * augmentation.color_permutation
        return elements, np.where(is_permuted, tables, np.arange(NUM_COLORS, dtype=np.uint8))
