"""Which examples enter the carry: each canvas has its own batch of sequences, refilled as they halt.

B global batch. Everything drawn is a function of (seed, micro step); what depends on halting is kept in the carry and
saved with it, so that a resumed run goes on exactly.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from arc_core.extents import Ints
from arc_core.grid import MAX_SIDE
from arc_core.randomness import generator_for
from hrm.data.batches import canvas_of
from hrm.data.identities import Examples
from hrm.model.reasoner import State


@dataclass
class Carry:
    """One canvas's sequences under way; rows of this process alone.

    Attributes:
        state: None before the first segment.
        steps: (B / world,) int64 segments done.
        halted: (B,) bool on the host, of all processes.
        examples: (B,) int64 example numbers, of all processes.
        origins: (B, 2) in 0..1, of all processes.
        taken: examples handed out so far.
    """

    state: State | None
    steps: Tensor
    halted: np.ndarray
    examples: Ints
    origins: np.ndarray
    taken: int = 0


@dataclass(frozen=True)
class Stream:
    """Training examples by canvas, in a random order that is new in every epoch of the canvas.

    Attributes:
        examples: all of them.
        batch_size: B.
        seed: the run's.
        full: every example on the 30 x 30 canvas.
    """

    examples: Examples
    batch_size: int
    seed: int
    full: bool

    def __post_init__(self) -> None:
        count = len(self.examples)
        canvases = np.full(count, MAX_SIDE) if self.full else canvas_of(self.examples.sides)
        sides, counts = np.unique(canvases, return_counts=True)
        members = {int(side): np.flatnonzero(canvases == side) for side in sides}
        object.__setattr__(self, "_members", members)
        object.__setattr__(self, "_shares", counts / count)
        object.__setattr__(self, "_order", lru_cache(maxsize=2 * len(sides))(self._draw_order))

    @property
    def sides(self) -> tuple[int, ...]:
        """Canvases in use, small to large."""
        return tuple(self._members)  # type: ignore[attr-defined]  # set in __post_init__, as are the others below

    def side_of(self, micro_step: int) -> int:
        """The canvas of a forward pass, in proportion to its examples."""
        rng = generator_for(self.seed, "canvas", micro_step)
        return int(rng.choice(self.sides, p=self._shares))  # type: ignore[attr-defined]

    def new_carry(self, share: int, device: torch.device) -> Carry:
        """A carry in which everything is to be refilled.

        Args:
            share: rows of this process.
        """
        batch = self.batch_size
        steps = torch.zeros(share, dtype=torch.int64, device=device)
        return Carry(None, steps, np.ones(batch, dtype=bool), np.zeros(batch, dtype=np.int64), np.zeros((batch, 2)))

    def refill(self, carry: Carry, side: int, micro_step: int) -> None:
        """Puts the next examples of a canvas where sequences have halted."""
        fresh = np.flatnonzero(carry.halted)
        members = self._members[side]  # type: ignore[attr-defined]
        epochs, places = np.divmod(carry.taken + np.arange(len(fresh)), len(members))
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            carry.examples[fresh[chosen]] = self._order(side, int(epoch))[places[chosen]]  # type: ignore[attr-defined]
        carry.origins[fresh] = generator_for(self.seed, "origins", micro_step).random((self.batch_size, 2))[fresh]
        carry.taken += len(fresh)

    def _draw_order(self, side: int, epoch: int) -> Ints:
        order: Ints = generator_for(self.seed, f"examples of canvas {side}", epoch).permutation(
            self._members[side]  # type: ignore[attr-defined]
        )
        return order
