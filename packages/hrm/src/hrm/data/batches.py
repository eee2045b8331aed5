"""Examples to batches of tokens. B batch, S canvas side, L = S*S, P prefix tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arc_core.extents import Ints
from arc_core.grid import MAX_SIDE
from arc_core.tensors import TaskTensors
from arc_core.transfer import upload
from hrm.data.identities import Examples, Identities
from hrm.data.tokens import CANVASES, FIRST_COLOR, encode, make_labels, shift_tokens, window_positions
from hrm.model.halting import Batch


def round_up_to_canvas(extents: Ints) -> Ints:
    """Returns the sides of the smallest canvases that are no shorter than these extents (1..30)."""
    canvases: Ints = np.array(CANVASES)[np.searchsorted(CANVASES, extents)]
    return canvases


def choose_canvas(sides: Ints) -> Ints:
    """Returns the sides of the smallest canvases that hold grids of these sides and their END ring."""
    return round_up_to_canvas(np.minimum(sides + 1, MAX_SIDE))


def build_batch(
    tensors: TaskTensors,
    identities: Identities,
    examples: Examples,
    side: int,
    prefix_tokens: int,
    offset: Tensor | None,
) -> Batch:
    """Builds the tokens and labels of examples in the views of their identities.

    Args:
        tensors: the tasks; batches are made on their device.
        identities: of the same tasks.
        examples: B of them.
        side: S, no less than any side of these grids.
        prefix_tokens: P.
        offset: (B, 2) in 0..1, how far the window, or the grid on the full canvas, is moved of the room that there is;
            None for not at all.
    """
    source = OnTheFlySource(tensors, identities, examples)
    return load_batch(source, np.arange(len(examples)), side, prefix_tokens, offset)


def translate(tokens: Tensor, sizes: Tensor, identities: Tensor, prefix_tokens: int, offset: Tensor | None) -> Batch:
    """Makes a batch of grids that lie at the top left, moved about the full canvas.

    Args:
        tokens: (B, 2, S, S) inputs and outputs.
        sizes: (B, 2, 2) their heights and widths.
        identities: (B,) rows of the puzzle embedding.
        prefix_tokens: P.
        offset: see `build_batch`.
    """
    side, device = tokens.shape[2], tokens.device
    corner: Tensor | None = None
    if offset is not None and side < MAX_SIDE:  # the window moves over the full canvas, the grid stays in its corner
        corner = (offset * (MAX_SIDE - side + 1)).long()
    elif offset is not None:
        shift = (offset * (MAX_SIDE - sizes.amax(dim=1) + 1)).long()
        tokens = shift_tokens(tokens.flatten(0, 1), shift.repeat_interleave(2, dim=0)).view_as(tokens)
    flat = tokens.flatten(2)
    positions = window_positions(side, prefix_tokens, corner, device)
    return Batch(flat[:, 0], make_labels(flat[:, 1]), identities, positions)


class ExampleSource(Protocol):
    """Gives the tokens of training examples by their indices: arrays of the host, then on the device a batch."""

    @property
    def device(self) -> torch.device:
        """Where batches are built."""
        ...

    def host_arrays(self, indices: Ints, side: int) -> list[npt.NDArray[Any]]:
        """Returns what the host knows of a batch, to be copied to the device.

        Args:
            indices: (B,) of examples.
            side: see `build_batch`.
        """
        ...

    def build(self, arrays: Sequence[Tensor], side: int, prefix_tokens: int, offset: Tensor | None) -> Batch:
        """Builds the batch of examples on one canvas.

        Args:
            arrays: those of `host_arrays`, on the device.
            side, prefix_tokens, offset: see `build_batch`.
        """
        ...


def load_batch(source: ExampleSource, indices: Ints, side: int, prefix_tokens: int, offset: Tensor | None) -> Batch:
    """Builds a batch in one go.

    Args:
        source: of the examples.
        indices: (B,) of examples.
        side, prefix_tokens, offset: see `build_batch`.
    """
    arrays = upload(source.host_arrays(indices, side), source.device)
    return source.build(arrays, side, prefix_tokens, offset)


@dataclass(frozen=True)
class OnTheFlySource:
    """Makes tokens from the tasks, on their device."""

    tensors: TaskTensors
    identities: Identities
    examples: Examples

    @property
    def device(self) -> torch.device:
        """Where batches are built: the device of the tasks."""
        return self.tensors.rows.device

    def host_arrays(self, indices: Ints, side: int) -> list[npt.NDArray[Any]]:
        """Returns indices of inputs and outputs, elements and colours of their views, and rows of the embedding.

        Args:
            indices: (B,) of examples.
            side: is not needed.
        """
        pairs, identities = self.examples.pairs[indices], self.examples.identities[indices]
        return [
            np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel(),
            self.identities.elements[identities].repeat(2),
            self.identities.colors[identities].repeat(2, axis=0),
            identities + 1,  # row 0 of the embedding is the blank one
        ]

    def build(self, arrays: Sequence[Tensor], side: int, prefix_tokens: int, offset: Tensor | None) -> Batch:
        """Builds the batch.

        Args:
            arrays: see `host_arrays`.
            side, prefix_tokens, offset: see `build_batch`.
        """
        grids, elements, colors, rows = arrays
        canvas, sizes = self.tensors.gather(grids, elements, colors, side)
        tokens = encode(canvas, sizes).view(len(rows), 2, side, side)
        return translate(tokens, sizes.view(len(rows), 2, 2), rows, prefix_tokens, offset)


@dataclass(frozen=True)
class StoredSource:
    """Reads tokens from a dataset's memory-mapped arrays.

    Attributes:
        inputs, labels: (X, 900) uint8, grids at the top left.
        identities: (X,) indices of identities, from 0.
        device: where batches go.
    """

    inputs: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    identities: Ints
    device: torch.device

    def host_arrays(self, indices: Ints, side: int) -> list[npt.NDArray[Any]]:
        """Reads the tokens of inputs and outputs, and rows of the embedding.

        Args:
            indices: (B,) of examples.
            side: see `build_batch`.
        """
        pairs = np.stack([self.inputs[indices], self.labels[indices]], axis=1)
        return [
            pairs.reshape(-1, 2, MAX_SIDE, MAX_SIDE)[:, :, :side, :side],
            self.identities[indices] + 1,
        ]

    def build(self, arrays: Sequence[Tensor], side: int, prefix_tokens: int, offset: Tensor | None) -> Batch:
        """Builds the batch.

        Args:
            arrays: see `host_arrays`.
            side, prefix_tokens, offset: see `build_batch`.
        """
        tokens, rows = arrays
        is_grid = tokens >= FIRST_COLOR
        sizes = torch.stack([is_grid[:, :, :, 0].sum(2), is_grid[:, :, 0].sum(2)], dim=2)
        return translate(tokens, sizes, rows, prefix_tokens, offset)
