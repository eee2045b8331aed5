"""Answers to many queries in one stream of bucketed batches, each on the smallest canvas that turns out to hold it."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from arc_core.grid import Grid
from arc_core.sampling import batches_by_canvas
from arc_core.tensors import TaskTensors
from rlan.data.queries import Inputs, Queries, build_inputs
from rlan.decode import decode, surest_step
from rlan.model.rlan import Outputs

_CELLS_A_BATCH = 64 * 20 * 20  # solver canvases that fit in a few hundred MiB at hidden size 256


class Model(Protocol):
    """What answers queries: a `Rlan`, bare or wrapped."""

    def __call__(self, inputs: Inputs, adapt: bool = True) -> Outputs:
        """A forward pass, with HyperLoRA's changes or without."""
        ...


@dataclass
class Diagnostics:
    """Sums over queries of what the model did inside, for metrics."""

    queries: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, outputs: Outputs) -> None:
        """Takes in a batch."""
        values: dict[str, Tensor] = {}
        if outputs.clues is not None:
            clues = outputs.clues
            used = clues.usage / clues.usage.sum(1, keepdim=True)
            centre = (clues.centroids * used[..., None]).sum(1, keepdim=True)
            values["dsc_entropy"] = (clues.entropy * used).sum(1)
            values["dsc_clues_used"] = clues.usage.sum(1)
            values["stop_probability"] = torch.sigmoid(clues.stop_logits).mean(1)
            values["centroid_spread"] = ((clues.centroids - centre).square().sum(-1).sqrt() * used).sum(1)
        if outputs.predicates is not None:
            values["predicate_activation"] = outputs.predicates.mean(1)
        if outputs.context is not None:
            values["context_norm"] = outputs.context.norm(dim=1)
        self.queries += len(outputs.logits)
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.sum())

    def means(self) -> dict[str, float]:
        """Mean over all queries taken in."""
        return {name: value / self.queries for name, value in self.sums.items()}


@torch.inference_mode()
def answer(
    model: Model,
    tensors: TaskTensors,
    queries: Queries,
    stablemax: bool,
    best_step: bool = False,
    diagnostics: Diagnostics | None = None,
) -> list[tuple[Grid, float]]:
    """The grid and confidence of every query, in order; canvases grow while answers touch their ends.

    Args:
        stablemax: whether logits are read as stablemax.
        best_step: take the solver step of lowest entropy, not the last.
        diagnostics: takes in what the model did.
    """
    answers: list[tuple[Grid, float] | None] = [None] * len(queries)
    waiting = np.arange(len(queries))
    while len(waiting):
        touching = []
        current = queries.rows(waiting)
        shown = (current.demos >= 0).sum(axis=1)
        for side, rows in batches_by_canvas(current.canvases(tensors), _CELLS_A_BATCH, shown):
            inputs = build_inputs(tensors, current.rows(rows).trimmed(), side)
            outputs = model(inputs)
            if diagnostics is not None:
                diagnostics.add(outputs)
            steps = outputs.logits
            logits = surest_step(steps, inputs.live, stablemax) if best_step else steps[:, -1]
            found = decode(logits, inputs.live, stablemax)
            grids, confidence, touches = found.grids(), found.confidence.tolist(), found.touches.tolist()
            for row, grid, sure, touch in zip(rows, grids, confidence, touches, strict=True):
                answers[waiting[row]] = (grid, sure)
                if touch:
                    touching.append(waiting[row])
        waiting = np.array(touching, dtype=np.int64)
        queries = queries.grown()
    return [found for found in answers if found is not None]
