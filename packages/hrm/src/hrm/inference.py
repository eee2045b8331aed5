"""Answers to puzzles: segments until all prefer to halt, on canvases that grow while answers reach their edge.

B batch, S canvas side, E embedding channels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arc_core.extents import Ints, answer_extents, grow_extent, transform_extents
from arc_core.grid import MAX_SIDE, Grid
from arc_core.sampling import batches_by_canvas
from arc_core.tensors import TaskTensors
from arc_core.transfer import upload
from hrm.data.batches import round_up_to_canvas
from hrm.data.tokens import FIRST_COLOR, decode_sizes, encode, window_positions
from hrm.model.halting import prefers_halt
from hrm.model.reasoner import Reasoner, SegmentOutput

_CELLS_PER_BATCH = 64 * 400  # keeps attention of a batch within a few hundred megabytes whatever the canvas

EmbeddingLookup = Callable[[Ints], Tensor | None]


@dataclass(frozen=True)
class Puzzles:
    """Test inputs to answer, arrays with B rows.

    Attributes:
        pairs: indices of pairs of a TaskTensors; outputs are not looked at.
        elements, colors: (B,) dihedral elements and (B, 10) colour tables of the views.
        extents: (B, 2) height and width in which answers are sought first, in the view.
    """

    pairs: Ints
    elements: Ints
    colors: npt.NDArray[np.uint8]
    extents: Ints

    def __len__(self) -> int:
        return len(self.pairs)

    @classmethod
    def from_pairs(cls, tensors: TaskTensors, pairs: Ints, elements: Ints, colors: npt.NDArray[np.uint8]) -> "Puzzles":
        """Makes puzzles whose extents follow from their tasks' demonstrations.

        Args:
            tensors: the tasks.
            pairs: (B,) indices of pairs.
            elements, colors: (B,) and (B, 10), the views.
        """
        tasks = np.searchsorted(tensors.first_pair, pairs, side="right") - 1
        max_demonstrations = int(tensors.num_train[tasks].max(initial=1))
        index = np.arange(max_demonstrations)
        demonstrations = np.where(
            index < tensors.num_train[tasks, None], tensors.first_pair[tasks, None] + index, -1
        )  # fmt: skip
        extents = transform_extents(answer_extents(tensors, pairs, demonstrations), elements)
        return cls(pairs, elements, colors, extents)


def run_segments(
    model: Reasoner, tokens: Tensor, puzzle_embeddings: Tensor | None, positions: Tensor, stop_early: bool
) -> SegmentOutput:
    """Runs segments from the initial state and returns the output of the last one.

    Args:
        model: in evaluation mode.
        tokens: (B, L).
        puzzle_embeddings: (B, E), None where the model has none.
        positions: (B or 1, T).
        stop_early: end when all sequences prefer to halt; otherwise after `halt_max_steps`.
    """
    config = model.config
    state = model.initial_state(len(tokens), tokens.shape[1])
    output: SegmentOutput
    for segment in range(1, config.halt_max_steps + 1):
        state, output = model(state, tokens, puzzle_embeddings, positions)
        if stop_early and segment < config.halt_max_steps and bool(prefers_halt(config, output).all()):
            break
    return output


@torch.no_grad()
def answer_puzzles(
    model: Reasoner,
    tensors: TaskTensors,
    puzzles: Puzzles,
    look_up_embeddings: EmbeddingLookup,
    stop_early: bool,
    full_canvas: bool = False,
) -> list[tuple[Grid, float]]:
    """Answers every puzzle in order.

    Args:
        model: in evaluation mode.
        tensors: the tasks of the puzzles, on the model's device.
        puzzles: what to answer.
        look_up_embeddings: gives (B, E) embeddings of (B,) indices of puzzles, or None where the model has none.
        stop_early: see `run_segments`.
        full_canvas: compute on 30 x 30 canvases throughout.
    Returns:
        for each puzzle the grid and sigmoid(q_halt), the model's own probability of being right. A grid is 1 x 1 where
        the tokens have no rectangle of colours at their corner.
    """
    device = tensors.rows.device
    answers: list[tuple[Grid, float] | None] = [None] * len(puzzles)
    pending = np.arange(len(puzzles))  # indices of the puzzles without a final answer
    extents = np.full_like(puzzles.extents, MAX_SIDE) if full_canvas else puzzles.extents
    while len(pending):
        at_edge = []  # rows of `pending` whose answers fill the canvas, so that it may be too small
        for side, rows in batches_by_canvas(round_up_to_canvas(extents.max(axis=1)), _CELLS_PER_BATCH):
            indices = pending[rows]
            views = (2 * puzzles.pairs[indices], puzzles.elements[indices], puzzles.colors[indices])
            grids, elements, colors = upload(views, device)
            canvas, sizes = tensors.gather(grids, elements, colors, side)
            tokens = encode(canvas, sizes).flatten(1)
            positions = window_positions(side, model.prefix_tokens, device=device)
            output = run_segments(model, tokens, look_up_embeddings(indices), positions, stop_early)
            best = output.logits.argmax(-1).view(-1, side, side)
            decoded = decode_sizes(best)
            fills_canvas = ((decoded == side).any(dim=1) & (side < MAX_SIDE)).tolist()
            confidences = torch.sigmoid(output.q_halt).tolist()
            cells = (best - FIRST_COLOR).clamp_min(0).to(torch.uint8).cpu().numpy()
            for row, (height, width), grid, confidence, is_full in zip(
                rows, decoded.clamp_min(1).tolist(), cells, confidences, fills_canvas, strict=True
            ):
                answers[pending[row]] = (np.ascontiguousarray(grid[:height, :width]), confidence)
                if is_full:
                    at_edge.append(row)
        again = np.array(at_edge, dtype=np.int64)
        pending, extents = pending[again], grow_extent(extents[again])
    return [answer for answer in answers if answer is not None]
