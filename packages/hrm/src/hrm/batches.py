"""Examples to batches of tokens. B batch, S canvas side, L = S*S, P prefix tokens."""

import numpy as np
import torch
from torch import Tensor

from arc_core.extents import Ints
from arc_core.grid import MAX_SIDE
from arc_core.tensors import TaskTensors
from hrm.halting import Batch
from hrm.identities import Examples, Identities
from hrm.tokens import CANVASES, encode, labels_of, moved, positions


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
    corner: Tensor | None = None
    if origin is not None and side < MAX_SIDE:  # the window moves over the full canvas, the grid stays in its corner
        corner = (origin * (MAX_SIDE - side + 1)).long()
    elif origin is not None:
        room = MAX_SIDE - sizes.view(count, 2, 2).amax(dim=1)
        shift = (origin * (room + 1)).long()
        tokens = moved(tokens.flatten(0, 1), shift.repeat_interleave(2, dim=0)).view_as(tokens)
    flat = tokens.flatten(2)
    rows = torch.from_numpy(number + 1).to(device)  # row 0 of the embedding is the blank one
    return Batch(flat[:, 0], labels_of(flat[:, 1]), rows, positions(side, prefix, corner, device))
