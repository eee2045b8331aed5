"""Plans the samples of every batch as a pure function of (seed, step, rank, world size).

An epoch's samples are grouped by size, so that a batch costs no more than the canvas that it needs; the batches come
in random order. Ranks divide every global batch by rows, so it is the same for any number of ranks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from arc_core.randomness import generator_for

Indices = npt.NDArray[np.int64]


def epoch_batches(sizes: Indices, batch_size: int, rng: np.random.Generator) -> Indices:
    """Groups samples of similar size into full batches at random.

    Args:
        sizes: (samples,) a number that grows with the cost of each sample, such as its canvas side.
        batch_size: rows of a batch; the last batch is filled up with samples that are drawn again.
        rng: generator to draw from.
    Returns:
        (batches, batch_size) sample indices; every sample appears at least once.
    """
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(sizes[shuffled], kind="stable")]
    missing = -len(order) % batch_size
    # Samples are drawn again from among the largest, so that no small sample is put on a big canvas.
    order = np.concatenate([order, rng.choice(order[-batch_size:], missing)]) if missing else order
    batches = order.reshape(-1, batch_size)
    return batches[rng.permutation(len(batches))]


def batches_by_canvas(canvases: Indices, cells: int, order: Indices | None = None) -> Iterator[tuple[int, Indices]]:
    """Yields batches as (canvas side, sample indices) that cover all samples, small canvases first.

    Args:
        canvases: (samples,) canvas side of each sample.
        cells: maximum number of cells of all canvases of a batch; a batch has at least one sample.
        order: (samples,) keys by which the samples of a canvas are sorted, so that similar ones share a batch.
    """
    for side in np.unique(canvases).tolist():
        rows = np.flatnonzero(canvases == side)
        if order is not None:
            rows = rows[np.argsort(order[rows], kind="stable")]
        size = max(1, cells // side**2)
        for start in range(0, len(rows), size):
            yield side, rows[start : start + size]


@dataclass(frozen=True)
class BatchPlan:
    """The batches of a run whose epochs all have the same number of samples.

    Attributes:
        sizes_of: returns the (samples,) sizes of an epoch's samples; a pure function of the epoch.
        samples: number of samples in an epoch.
        batch_size: rows of the global batch.
        seed: seed of the run.
    """

    sizes_of: Callable[[int], Indices]
    samples: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.samples < 1 or self.batch_size < 1:
            raise ValueError(f"samples and batch_size must be at least 1; got {self.samples}, {self.batch_size}")
        object.__setattr__(self, "_batches_of", lru_cache(maxsize=2)(self._draw))

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in which every sample appears."""
        return -(-self.samples // self.batch_size)

    def _draw(self, epoch: int) -> Indices:
        rng = generator_for(self.seed, "batches", epoch)
        return epoch_batches(self.sizes_of(epoch), self.batch_size, rng)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[int, Indices]:
        """Returns the epoch of a step and the samples of a rank's share of its batch.

        Args:
            step: index of the step over the whole run, from 0.
            rank: 0 .. world - 1.
            world: number of ranks; divides `batch_size`.
        Returns:
            The epoch, and (batch_size / world,) int64 sample indices.
        """
        if self.batch_size % world:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of the {world} processes")
        epoch, index = divmod(step, self.steps_per_epoch)
        batches: Indices = self._batches_of(epoch)  # type: ignore[attr-defined]  # set in __post_init__
        return epoch, batches[index][rank::world]
