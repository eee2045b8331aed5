"""Examples to batches of tokens. B batch, S canvas side, L = S*S, P prefix tokens."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arc_core.extents import Ints
from arc_core.grid import MAX_SIDE
from arc_core.tensors import TaskTensors
from hrm.data.identities import Examples, Identities
from hrm.data.tokens import CANVASES, FIRST_COLOR, encode, labels_of, moved, positions
from hrm.model.halting import Batch


def window_of(extents: Ints) -> Ints:
    """The smallest canvases no shorter than these extents (1..30)."""
    windows: Ints = np.array(CANVASES)[np.searchsorted(CANVASES, extents)]
    return windows


def canvas_of(sides: Ints) -> Ints:
    """The smallest canvases that hold grids of these sides and their END ring."""
    return window_of(np.minimum(sides + 1, MAX_SIDE))


def build_batch(
    tensors: TaskTensors, identities: Identities, examples: Examples, side: int, prefix: int, origin: Tensor | None
) -> Batch:
    """Tokens and labels of examples, turned and recoloured as their identities say.

    Args:
        side: S, no less than any side of these grids.
        origin: (B, 2) in 0..1, how far the window, or the grid on the full canvas, is moved; None for not at all.
    """
    device = tensors.rows.device
    number = examples.identities
    count = len(examples)
    grids = torch.from_numpy(np.stack([2 * examples.pairs, 2 * examples.pairs + 1], axis=1).ravel()).to(device)
    elements = torch.from_numpy(identities.elements[number].repeat(2)).to(device)
    colors = torch.from_numpy(identities.colors[number].repeat(2, axis=0)).to(device)
    canvas, sizes = tensors.gather(grids, elements, colors, side)
    tokens = encode(canvas, sizes).view(count, 2, side, side)
    rows = torch.from_numpy(number + 1).to(device)  # row 0 of the embedding is the blank one
    return placed(tokens, sizes.view(count, 2, 2), rows, prefix, origin)


def placed(tokens: Tensor, sizes: Tensor, identities: Tensor, prefix: int, origin: Tensor | None) -> Batch:
    """A batch of grids that lie at the top left, moved.

    Args:
        tokens: (B, 2, S, S) inputs and outputs.
        sizes: (B, 2, 2) their heights and widths.
        identities: (B,) rows of the puzzle embedding.
        origin: see `build_batch`.
    """
    side, device = tokens.shape[2], tokens.device
    corner: Tensor | None = None
    if origin is not None and side < MAX_SIDE:  # the window moves over the full canvas, the grid stays in its corner
        corner = (origin * (MAX_SIDE - side + 1)).long()
    elif origin is not None:
        shift = (origin * (MAX_SIDE - sizes.amax(dim=1) + 1)).long()
        tokens = moved(tokens.flatten(0, 1), shift.repeat_interleave(2, dim=0)).view_as(tokens)
    flat = tokens.flatten(2)
    return Batch(flat[:, 0], labels_of(flat[:, 1]), identities, positions(side, prefix, corner, device))


class Source(Protocol):
    """Where the tokens of numbered examples come from."""

    def batch(self, numbers: Ints, side: int, prefix: int, origin: Tensor | None) -> Batch:
        """Examples on a canvas; see `build_batch`."""
        ...


@dataclass(frozen=True)
class OnTheFly:
    """Tokens made from tasks on the device."""

    tensors: TaskTensors
    identities: Identities
    examples: Examples

    def batch(self, numbers: Ints, side: int, prefix: int, origin: Tensor | None) -> Batch:
        """See `Source`."""
        return build_batch(self.tensors, self.identities, self.examples.rows(numbers), side, prefix, origin)


@dataclass(frozen=True)
class Stored:
    """Tokens read from a dataset's memory-mapped arrays.

    Attributes:
        inputs, labels: (X, 900) uint8, grids at the top left.
        identities: (X,).
        device: where batches go.
    """

    inputs: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    identities: Ints
    device: torch.device

    def batch(self, numbers: Ints, side: int, prefix: int, origin: Tensor | None) -> Batch:
        """See `Source`."""
        both = np.stack([self.inputs[numbers], self.labels[numbers]], axis=1)
        window = both.reshape(-1, 2, MAX_SIDE, MAX_SIDE)[:, :, :side, :side]
        tokens = torch.from_numpy(np.ascontiguousarray(window)).to(self.device)
        is_grid = tokens >= FIRST_COLOR
        sizes = torch.stack([is_grid[:, :, :, 0].sum(2), is_grid[:, :, 0].sum(2)], dim=2)
        return placed(tokens, sizes, torch.from_numpy(self.identities[numbers] + 1).to(self.device), prefix, origin)
