"""Answers to puzzles: segments until all want to halt, on canvases that grow while answers reach their end.

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
from hrm.config import ModelConfig
from hrm.data.batches import window_of
from hrm.data.tokens import FIRST_COLOR, decoded_sizes, encode, positions
from hrm.model.halting import wants_to_halt
from hrm.model.reasoner import Answer, Reasoner

_CELLS_A_BATCH = 64 * 400  # keeps attention of a batch within a few hundred megabytes whatever the canvas

Lookup = Callable[[Ints], Tensor | None]


@dataclass(frozen=True)
class Puzzles:
    """Test inputs to answer, arrays with B rows.

    Attributes:
        pairs: pair numbers of a TaskTensors; outputs are not looked at.
        elements, colors: (B,) and (B, 10), the views.
        live: (B, 2) extents in which answers are sought first, turned.
    """

    pairs: Ints
    elements: Ints
    colors: npt.NDArray[np.uint8]
    live: Ints

    def __len__(self) -> int:
        return len(self.pairs)

    @classmethod
    def of(cls, tensors: TaskTensors, pairs: Ints, elements: Ints, colors: npt.NDArray[np.uint8]) -> "Puzzles":
        """Puzzles whose extents follow from their tasks' demonstrations."""
        tasks = np.searchsorted(tensors.first_pair, pairs, side="right") - 1
        most = int(tensors.num_train[tasks].max(initial=1))
        step = np.arange(most)
        demos = np.where(step < tensors.num_train[tasks, None], tensors.first_pair[tasks, None] + step, -1)
        live = transform_extents(answer_extents(tensors, pairs, demos), elements)
        return cls(pairs, elements, colors, live)


def last_segment(model: Reasoner, tokens: Tensor, puzzles: Tensor | None, places: Tensor, stop_early: bool) -> Answer:
    """The answer of the last segment.

    Args:
        stop_early: end when all sequences want to halt; else after `halt_max_steps`.
    """
    config: ModelConfig = model.config
    state = model.start(len(tokens), tokens.shape[1])
    answer: Answer
    for segment in range(1, config.halt_max_steps + 1):
        state, answer = model(state, tokens, puzzles, places)
        if stop_early and segment < config.halt_max_steps and bool(wants_to_halt(config, answer).all()):
            break
    return answer


@torch.no_grad()
def answer(
    model: Reasoner, tensors: TaskTensors, puzzles: Puzzles, lookup: Lookup, stop_early: bool, full: bool = False
) -> list[tuple[Grid, float]]:
    """The grid and the probability of being right, as the model sees it, of every puzzle in order.

    A grid is 1 x 1 where the tokens have no rectangle of colours at their corner.

    Args:
        lookup: (B, E) embeddings of puzzle numbers; None where the model has none.
        full: on 30 x 30 canvases throughout.
    """
    device = tensors.rows.device
    answers: list[tuple[Grid, float] | None] = [None] * len(puzzles)
    waiting, live = np.arange(len(puzzles)), np.full_like(puzzles.live, MAX_SIDE) if full else puzzles.live
    while len(waiting):
        touching = []
        for side, rows in batches_by_canvas(window_of(live.max(axis=1)), _CELLS_A_BATCH):
            numbers = waiting[rows]
            canvas, sizes = tensors.gather(
                torch.from_numpy(2 * puzzles.pairs[numbers]).to(device),
                torch.from_numpy(puzzles.elements[numbers]).to(device),
                torch.from_numpy(puzzles.colors[numbers]).to(device),
                side,
            )
            tokens = encode(canvas, sizes).flatten(1)
            places = positions(side, model.prefix, device=device)
            found = last_segment(model, tokens, lookup(numbers), places, stop_early)
            best = found.logits.argmax(-1).view(-1, side, side)
            extents = decoded_sizes(best)
            reaches = ((extents == side).any(dim=1) & (side < MAX_SIDE)).tolist()
            sure = torch.sigmoid(found.halt).tolist()
            cells = (best - FIRST_COLOR).clamp_min(0).to(torch.uint8).cpu().numpy()
            for row, (height, width), grid, q, reach in zip(
                rows, extents.clamp_min(1).tolist(), cells, sure, reaches, strict=True
            ):
                answers[waiting[row]] = (np.ascontiguousarray(grid[:height, :width]), q)
                if reach:
                    touching.append(row)
        again = np.array(touching, dtype=np.int64)
        waiting, live = waiting[again], grow_extent(live[again])
    return [found for found in answers if found is not None]
