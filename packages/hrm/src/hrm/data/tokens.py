"""Grids to token sequences and back: PAD, END ring, colours; cells row by row.

B batch, S canvas side, L = S*S, P prefix tokens. A canvas smaller than 30 is a window of the full one: a cell keeps
its position in the full sequence, so one set of weights serves all canvases.
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
    """Encodes grids as tokens, with END below and right of each grid where there is room.

    Args:
        canvas: (B, S, S) uint8, grids at the top left, OUTSIDE past them.
        sizes: (B, 2) heights and widths.
    Returns:
        (B, S, S) uint8 tokens.
    """
    index = torch.arange(canvas.shape[1], device=canvas.device)
    height, width = sizes[:, 0, None, None], sizes[:, 1, None, None]
    rows, columns = index[:, None], index
    is_end = ((rows == height) & (columns < width)) | ((columns == width) & (rows < height))
    tokens = torch.where(canvas == OUTSIDE, PAD, canvas + FIRST_COLOR)
    return torch.where(is_end, END, tokens).to(torch.uint8)


def make_labels(tokens: Tensor) -> Tensor:
    """Returns (B, ...) int64 training labels: padding is ignored, so only colours and the END ring count."""
    return torch.where(tokens == PAD, IGNORED, tokens.long())


def shift_tokens(tokens: Tensor, offset: Tensor) -> Tensor:
    """Shifts (B, S, S) tokens down and right by (B, 2) cells, filling with PAD; what leaves the canvas is cut off."""
    side = tokens.shape[1]
    index = torch.arange(side, device=tokens.device)
    rows, columns = (index - offset[:, axis, None] for axis in range(2))  # (B, S) each, where a cell comes from
    batch = torch.arange(len(tokens), device=tokens.device)[:, None, None]
    source = tokens[batch, rows.clamp_min(0)[:, :, None], columns.clamp_min(0)[:, None]]
    return torch.where((rows >= 0)[:, :, None] & (columns >= 0)[:, None], source, PAD)


def window_positions(
    side: int, prefix_tokens: int, corner: Tensor | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """Computes where the prefix and the cells of a window stand in the sequence of the full canvas.

    Args:
        side: S of the window.
        prefix_tokens: P.
        corner: (B, 2) row and column of the window's top left cell on the full canvas; None for (0, 0).
        device: of the result where there is no corner.
    Returns:
        (B or 1, P + L) int64.
    """
    index = torch.arange(side, device=device if corner is None else corner.device)
    top_left = index.new_zeros(1, 2) if corner is None else corner
    rows, columns = top_left[:, 0, None] + index, top_left[:, 1, None] + index
    cells = prefix_tokens + (MAX_SIDE * rows[:, :, None] + columns[:, None]).flatten(1)
    prefix = torch.arange(prefix_tokens, device=index.device).expand(len(top_left), -1)
    return torch.cat([prefix, cells], dim=1)


def decode_sizes(tokens: Tensor) -> Tensor:
    """Finds the largest rectangle of colours alone at the top left of (B, S, S) tokens.

    Returns:
        (B, 2) heights and widths; 0 x 0 if there is no such rectangle.
    Source: the published evaluator's crop, written without its loops.
    """
    run = (tokens >= FIRST_COLOR).long().cumprod(2).sum(2)  # (B, S) colours at the start of each row
    widths = run.cummin(1).values  # (B, S) of the rectangle that ends at each row
    heights = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    best = (widths * heights * (len(heights) + 1) - heights).argmax(1)  # of equal areas the one with fewer rows
    width = widths.gather(1, best[:, None])
    return torch.cat([best[:, None] + 1, width], dim=1) * (width > 0)
