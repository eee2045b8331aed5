"""Answers many queries in bucketed batches, each query on the smallest canvas that turns out to hold its answer."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from arc_core.grid import Grid
from arc_core.sampling import batches_by_canvas
from arc_core.tensors import TaskTensors
from rlan.data.queries import Inputs, Queries, build_inputs
from rlan.decode import decode, lowest_entropy_step
from rlan.model.rlan import Outputs

_MAX_CELLS_PER_BATCH = 64 * 20 * 20  # solver canvases that fit in a few hundred MiB at hidden size 256


class Model(Protocol):
    """A model that answers queries: a `Rlan`, bare, compiled or wrapped for several processes."""

    def __call__(self, inputs: Inputs, adapt: bool = True) -> Outputs:
        """Runs a forward pass, with HyperLoRA's weight changes or without."""
        ...


@dataclass
class Diagnostics:
    """Sums over queries of figures about the model's inner workings, for metrics.

    Attributes:
        queries: number of queries summed so far.
        sums: sum of each figure over these queries.
    """

    queries: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, outputs: Outputs) -> None:
        """Adds the figures of one batch."""
        values: dict[str, Tensor] = {}
        if outputs.clues is not None:
            clues = outputs.clues
            weights = clues.usage / clues.usage.sum(1, keepdim=True)
            centre = (clues.centroids * weights[..., None]).sum(1, keepdim=True)
            values["dsc_entropy"] = (clues.entropy * weights).sum(1)
            values["dsc_clues_used"] = clues.usage.sum(1)
            values["stop_probability"] = torch.sigmoid(clues.stop_logits).mean(1)
            values["centroid_spread"] = ((clues.centroids - centre).square().sum(-1).sqrt() * weights).sum(1)
        if outputs.predicates is not None:
            values["predicate_activation"] = outputs.predicates.mean(1)
        if outputs.context is not None:
            values["context_norm"] = outputs.context.norm(dim=1)
        self.queries += len(outputs.logits)
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.sum())

    def means(self) -> dict[str, float]:
        """Returns the mean of each figure over all queries added."""
        return {name: value / self.queries for name, value in self.sums.items()}


@torch.inference_mode()
def answer_queries(
    model: Model,
    tensors: TaskTensors,
    queries: Queries,
    stablemax: bool,
    best_step: bool = False,
    diagnostics: Diagnostics | None = None,
) -> list[tuple[Grid, float]]:
    """Answers every query; a query is answered again on a larger canvas while its answer touches the canvas edge.

    Args:
        model: a model in evaluation mode.
        tensors: the tasks that the queries index.
        queries: the queries to answer.
        stablemax: read the logits as stablemax, not softmax.
        best_step: take the solver step of lowest entropy, not the last one.
        diagnostics: collects figures about the model's inner workings.
    Returns:
        The grid and the confidence (0..1) of every query, in order.
    """
    answers: list[tuple[Grid, float] | None] = [None] * len(queries)
    pending = np.arange(len(queries))
    while len(pending):
        still_pending = []
        current = queries.select(pending)
        num_shown = (current.demos >= 0).sum(axis=1)
        for side, rows in batches_by_canvas(current.canvas_sides(tensors), _MAX_CELLS_PER_BATCH, num_shown):
            inputs = build_inputs(tensors, current.select(rows).trim_padding(), side)
            outputs = model(inputs)
            if diagnostics is not None:
                diagnostics.add(outputs)
            steps, extent = outputs.logits, inputs.answer_extent
            decoded = decode(
                lowest_entropy_step(steps, extent, stablemax) if best_step else steps[:, -1], extent, stablemax
            )
            grids, confidences, touches = decoded.to_grids(), decoded.confidence.tolist(), decoded.touches_edge.tolist()
            for row, grid, confidence, touches_edge in zip(rows, grids, confidences, touches, strict=True):
                answers[pending[row]] = (grid, confidence)
                if touches_edge:
                    still_pending.append(pending[row])
        pending = np.array(still_pending, dtype=np.int64)
        queries = queries.grow_canvases()
    return [answer for answer in answers if answer is not None]
