"""Which samples make the batch of a step: a pure function of (seed, step, rank, world size).

An epoch's samples are grouped by size, so that a batch pays for the canvas it needs, and its batches come in random
order. Ranks share every global batch by rows, so it is the same for any number of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from arc_core.randomness import generator_for

Indices = npt.NDArray[np.int64]


def epoch_batches(sizes: Indices, batch_size: int, rng: np.random.Generator) -> Indices:
    """A random grouping of samples of like size into full batches.

    Args:
        sizes: (samples,) a number that grows with the cost of each, such as its canvas side.
        batch_size: rows of a batch; the last batch is filled up with samples drawn again.
    Returns:
        (batches, batch_size) sample numbers; every sample appears at least once.
    """
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(sizes[shuffled], kind="stable")]
    missing = -len(order) % batch_size
    # The samples drawn again are the largest ones' neighbours in size, so no small sample pays for a big canvas.
    order = np.concatenate([order, rng.choice(order[-batch_size:], missing)]) if missing else order
    batches = order.reshape(-1, batch_size)
    return batches[rng.permutation(len(batches))]


def batches_by_canvas(canvases: Indices, cells: int, order: Indices | None = None) -> Iterator[tuple[int, Indices]]:
    """(canvas side, sample numbers) that cover all samples, small canvases first.

    Args:
        canvases: (samples,) canvas sides.
        cells: of all canvases of a batch; a batch has one sample at least.
        order: (samples,) keys by which the samples of a canvas are sorted, so that like ones share a batch.
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
    """The batches of a run whose epochs all have one number of samples.

    Attributes:
        sizes_of: the size of every sample of an epoch, (samples,), a pure function of the epoch.
        samples: samples an epoch.
        batch_size: rows of the global batch.
        seed: the run's.
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
        """Steps until every sample has come."""
        return -(-self.samples // self.batch_size)

    def _draw(self, epoch: int) -> Indices:
        rng = generator_for(self.seed, "batches", epoch)
        return epoch_batches(self.sizes_of(epoch), self.batch_size, rng)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[int, Indices]:
        """The epoch of a step and the sample numbers of a rank's share of its batch.

        Args:
            step: 0 or more, counted over the whole run.
            rank: 0 .. world - 1.
            world: number of ranks; divides `batch_size`.
        Returns:
            epoch, (batch_size / world,) int64.
        """
        if self.batch_size % world:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of the {world} processes")
        epoch, index = divmod(step, self.steps_per_epoch)
        batches: Indices = self._batches_of(epoch)  # type: ignore[attr-defined]  # set in __post_init__
        return epoch, batches[index][rank::world]
