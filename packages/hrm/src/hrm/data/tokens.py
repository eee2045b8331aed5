"""Grids to token sequences and back: PAD, END ring, colours; cells row by row.

B batch, S canvas side, L = S*S, P prefix tokens. A canvas smaller than 30 is a window of the full one: a cell keeps
its place in the full sequence, so one set of weights serves all canvases.
"""

import torch
from torch import Tensor

from arc_core.grid import MAX_SIDE
from arc_core.tensors import OUTSIDE
from hrm.losses import IGNORED

PAD, END, FIRST_COLOR = 0, 1, 2

# Finer than RLAN's: here a batch is of one canvas for many steps, so more sides cost nothing.
CANVASES = (4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 27, 30)


def encode(canvas: Tensor, sizes: Tensor) -> Tensor:
    """(B, S, S) uint8 tokens of canvases at the top left, with END below and right of each grid where there is room.

    Args:
        canvas: (B, S, S) uint8, OUTSIDE past the grid.
        sizes: (B, 2) heights and widths.
    """
    step = torch.arange(canvas.shape[1], device=canvas.device)
    height, width = sizes[:, 0, None, None], sizes[:, 1, None, None]
    rows, columns = step[:, None], step
    ring = ((rows == height) & (columns < width)) | ((columns == width) & (rows < height))
    tokens = torch.where(canvas == OUTSIDE, PAD, canvas + FIRST_COLOR)
    return torch.where(ring, END, tokens).to(torch.uint8)


def labels_of(tokens: Tensor) -> Tensor:
    """(B, ...) int64 training labels: padding is ignored, so colours and the END ring alone count."""
    return torch.where(tokens == PAD, IGNORED, tokens.long())


def moved(tokens: Tensor, origin: Tensor) -> Tensor:
    """(B, S, S) tokens shifted down and right by (B, 2) cells; what passes the end is cut off."""
    side = tokens.shape[1]
    step = torch.arange(side, device=tokens.device)
    rows, columns = (step - origin[:, axis, None] for axis in range(2))  # (B, S) each, where a cell comes from
    batch = torch.arange(len(tokens), device=tokens.device)[:, None, None]
    source = tokens[batch, rows.clamp_min(0)[:, :, None], columns.clamp_min(0)[:, None]]
    return torch.where((rows >= 0)[:, :, None] & (columns >= 0)[:, None], source, PAD)


def positions(side: int, prefix: int, origin: Tensor | None = None, device: torch.device | str = "cpu") -> Tensor:
    """(B or 1, P + L) places in the full sequence of the prefix and of the cells of a window.

    Args:
        origin: (B, 2) row and column of the window's corner; None for the top left.
    """
    step = torch.arange(side, device=device if origin is None else origin.device)
    corner = step.new_zeros(1, 2) if origin is None else origin
    rows, columns = corner[:, 0, None] + step, corner[:, 1, None] + step
    cells = prefix + (MAX_SIDE * rows[:, :, None] + columns[:, None]).flatten(1)
    first = torch.arange(prefix, device=step.device).expand(len(corner), -1)
    return torch.cat([first, cells], dim=1)


def decoded_sizes(tokens: Tensor) -> Tensor:
    """(B, 2) sizes of the largest rectangles at the top left that have colours alone; 0 x 0 if there is none.

    Source: the published evaluator's crop, written without its loops.
    """
    run = (tokens >= FIRST_COLOR).long().cumprod(2).sum(2)  # (B, S) colours at the start of each row
    width = run.cummin(1).values
    step = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    best = (width * step * (len(step) + 1) - step).argmax(1)  # of equal areas the one with fewer rows
    found = width.gather(1, best[:, None])
    return torch.cat([best[:, None] + 1, found], dim=1) * (found > 0)
