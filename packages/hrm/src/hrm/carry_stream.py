"""Which examples enter the carry: each canvas has its own batch of sequences, refilled as they halt.

B global batch. Everything drawn is a function of (seed, micro step); what depends on halting is kept in the carry and
saved with it, so that a resumed run continues exactly.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from arc_core.extents import Ints
from arc_core.grid import MAX_SIDE
from arc_core.randomness import generator_for
from hrm.data.batches import choose_canvas
from hrm.data.identities import Examples
from hrm.model.reasoner import LatentState


@dataclass
class Carry:
    """The sequences of one canvas that are being reasoned about, between two segments.

    Attributes:
        state: latent states of this process's rows; None before the first segment.
        steps: (B / world,) int64 segments that this process's sequences have had.
        halted: (B,) bool on the host, of all processes.
        examples: (B,) int64 indices of examples, of all processes.
        offsets: (B, 2) in 0..1, how far each example is moved, of all processes; see `build_batch`.
        examples_drawn: how many examples have entered so far.
    """

    state: LatentState | None
    steps: Tensor
    halted: np.ndarray
    examples: Ints
    offsets: np.ndarray
    examples_drawn: int = 0


@dataclass(frozen=True)
class CarryStream:
    """Feeds training examples into the carries, for each canvas in a random order that is new in every epoch.

    Attributes:
        examples: all training examples.
        batch_size: B.
        seed: the run's.
        full_canvas: whether every example is put on the 30 x 30 canvas.
    """

    examples: Examples
    batch_size: int
    seed: int
    full_canvas: bool

    def __post_init__(self) -> None:
        count = len(self.examples)
        canvases = np.full(count, MAX_SIDE) if self.full_canvas else choose_canvas(self.examples.sides)
        sides, counts = np.unique(canvases, return_counts=True)
        members = {int(side): np.flatnonzero(canvases == side) for side in sides}
        object.__setattr__(self, "_members", members)
        object.__setattr__(self, "_shares", counts / count)
        object.__setattr__(self, "_order", lru_cache(maxsize=2 * len(sides))(self._draw_order))

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the canvases in use, small to large."""
        return tuple(self._members)  # type: ignore[attr-defined]  # set in __post_init__, as are the others below

    def draw_canvas(self, micro_step: int) -> int:
        """Draws the side of a forward pass's canvas, in proportion to the canvases' examples."""
        rng = generator_for(self.seed, "canvas", micro_step)
        return int(rng.choice(self.sides, p=self._shares))  # type: ignore[attr-defined]

    def create_carry(self, local_batch_size: int, device: torch.device) -> Carry:
        """Creates a carry whose sequences all wait to be replaced.

        Args:
            local_batch_size: rows of this process, B / world.
            device: of the latent states.
        """
        batch = self.batch_size
        steps = torch.zeros(local_batch_size, dtype=torch.int64, device=device)
        return Carry(None, steps, np.ones(batch, dtype=bool), np.zeros(batch, dtype=np.int64), np.zeros((batch, 2)))

    def refill(self, carry: Carry, side: int, micro_step: int) -> None:
        """Replaces the halted sequences of a carry by the next examples of its canvas, in place.

        Args:
            carry: to refill.
            side: of its canvas.
            micro_step: number of the forward pass, from 0; offsets are a function of it.
        """
        rows = np.flatnonzero(carry.halted)
        members = self._members[side]  # type: ignore[attr-defined]
        epochs, positions = np.divmod(carry.examples_drawn + np.arange(len(rows)), len(members))
        for epoch in np.unique(epochs):
            in_epoch = epochs == epoch
            order = self._order(side, int(epoch))  # type: ignore[attr-defined]
            carry.examples[rows[in_epoch]] = order[positions[in_epoch]]
        carry.offsets[rows] = generator_for(self.seed, "origins", micro_step).random((self.batch_size, 2))[rows]
        carry.examples_drawn += len(rows)

    def _draw_order(self, side: int, epoch: int) -> Ints:
        order: Ints = generator_for(self.seed, f"examples of canvas {side}", epoch).permutation(
            self._members[side]  # type: ignore[attr-defined]
        )
        return order
