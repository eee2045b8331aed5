"""Equivariance training: what the demonstrations write into the solver should not depend on how they are turned.

B batch, S canvas side, C = 11 classes.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arc_core.augment import NUM_DIHEDRAL, compose_dihedral, dihedral, invert_dihedral
from arc_core.extents import Ints, transform_extents
from arc_core.tensors import TaskTensors
from rlan.data.queries import Inputs, Queries, build_inputs
from rlan.inference import Model
from rlan.model.hyperlora import Deltas, LowRank, delta_norm
from rlan.model.layers import extent_mask
from rlan.model.rlan import Outputs

_COMPOSED = np.array([[compose_dihedral(a, b) for b in range(NUM_DIHEDRAL)] for a in range(NUM_DIHEDRAL)])


def turned_queries(queries: Queries, elements: Ints) -> Queries:
    """The same queries seen through one more (B,) dihedral element each."""
    return replace(
        queries, elements=_COMPOSED[elements, queries.elements], live=transform_extents(queries.live, elements)
    )


def other_elements(draws: npt.NDArray[np.float64]) -> Ints:
    """(copies, B) elements other than the identity from (B, 7) draws, no two of one query alike."""
    elements: Ints = 1 + np.argsort(draws, axis=1).T
    return elements


def turn_back(cells: Tensor, sizes: Ints, elements: Ints) -> Tensor:
    """Undoes a turn of each sample's top-left rectangle, in which grids turn within their own extent.

    Args:
        cells: (B, S, S, C) of turned queries.
        sizes: (B, 2) of the rectangle before the turn.
        elements: (B,) the turns.
    Returns:
        (B, S, S, C); cells outside the rectangle have no meaning.
    """
    side = cells.shape[1]
    numbers = np.arange(side * side, dtype=np.int64).reshape(side, side)
    index = np.tile(numbers, (len(cells), 1, 1))
    for row, ((height, width), element) in enumerate(zip(transform_extents(sizes, elements), elements, strict=True)):
        # The cell that ends up at (i, j) when the turned rectangle is turned back.
        back = dihedral(numbers[:height, :width], invert_dihedral(int(element)))  # type: ignore[arg-type]  # of numbers
        index[row, : back.shape[0], : back.shape[1]] = back
    flat = torch.from_numpy(index).to(cells.device).flatten(1)[..., None].expand(-1, -1, cells.shape[-1])
    return cells.flatten(1, 2).gather(1, flat).view_as(cells)


def magnitude_loss(plain: Deltas, turned: Deltas) -> Tensor:
    """Mean over changed layers and samples of the squared difference of the changes' norms."""
    pairs = [(delta_norm(plain[name]), delta_norm(turned[name])) for name in plain]
    return torch.stack([(one - other).square().mean() for one, other in pairs]).mean()


def delta_distance(plain: Deltas, turned: Deltas) -> Tensor:
    """Mean over changed layers and samples of the Frobenius distance of the changes."""
    distances = []
    for name, one in plain.items():
        other = turned[name]
        # The difference of two rank-R changes is one change of rank 2R.
        difference = LowRank(torch.cat([one.down, other.down], dim=2), torch.cat([one.up, -other.up], dim=1))
        distances.append(delta_norm(difference).mean())
    return torch.stack(distances).mean()


def answer_loss(plain: Tensor, turned: Tensor, sizes: Ints, elements: Ints) -> Tensor:
    """Mean over samples of the mean squared difference of the probabilities of the answers' cells.

    Args:
        plain, turned: (B, S, S, C) logits of the queries and of their turned copies.
        sizes: (B, 2) of the right answers to the queries.
        elements: (B,) the turns.
    """
    back = turn_back(turned, sizes, elements)
    difference = (torch.softmax(plain, -1) - torch.softmax(back, -1)).square().sum(-1)
    inside = extent_mask(torch.from_numpy(sizes).to(plain.device), plain.shape[1])
    return ((difference * inside).sum((1, 2)) / inside.sum((1, 2))).mean()


def equivariance(
    model: Model, deltas_of: Callable[[Inputs], Deltas], tensors: TaskTensors, queries: Queries, plain: Outputs,
    elements: Ints,
) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
    """Disagreement between queries and their turned copies, whose grids are encoded anew.

    Args:
        model: answers the first copy.
        deltas_of: the changes alone, for the other copies.
        plain: the model's outputs for `queries`.
        elements: (copies, B) turns.
    Returns:
        loss: magnitudes of all copies and answers of the first.
        metrics: equiv_loss and equiv_delta_norm.
    """
    side = plain.logits.shape[2]
    sizes = transform_extents(tensors.grid_sizes[2 * queries.pairs + 1], queries.elements)
    magnitudes, distances, answers = [], [], plain.logits.new_zeros(())
    for copy, turns in enumerate(elements):
        inputs = build_inputs(tensors, turned_queries(queries, turns), side)
        if copy == 0:
            outputs = model(inputs)
            deltas = outputs.deltas
            answers = answer_loss(plain.logits[:, -1], outputs.logits[:, -1], sizes, turns)
        else:
            deltas = deltas_of(inputs)
        magnitudes.append(magnitude_loss(plain.deltas, deltas))
        distances.append(delta_distance(plain.deltas, deltas).detach())
    loss = torch.stack(magnitudes).mean() + answers
    return loss, {"equiv_loss": loss.item(), "equiv_delta_norm": torch.stack(distances).mean().item()}
