"""Equivariance training: HyperLoRA's weight changes should not depend on the orientation of the demonstrations.

A dihedral element is one of the 8 rotations and reflections of a square. B batch, S canvas side, C = 11 classes.
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
from arc_core.transfer import upload
from rlan.data.queries import Inputs, Queries, build_inputs
from rlan.inference import Model
from rlan.model.hyperlora import Deltas, LowRankDelta, delta_norm
from rlan.model.layers import extent_mask
from rlan.model.rlan import Outputs

_COMPOSED = np.array([[compose_dihedral(a, b) for b in range(NUM_DIHEDRAL)] for a in range(NUM_DIHEDRAL)])


def transform_queries(queries: Queries, elements: Ints) -> Queries:
    """Returns the queries in views that are transformed by one more (B,) dihedral element each."""
    answer_extent = transform_extents(queries.answer_extent, elements)
    return replace(queries, elements=_COMPOSED[elements, queries.elements], answer_extent=answer_extent)


def nonidentity_elements(draws: npt.NDArray[np.float64]) -> Ints:
    """Orders the seven dihedral elements other than the identity at random.

    Args:
        draws: (B, 7) uniform in 0..1.
    Returns:
        (7, B) elements 1..7; each query has every element once.
    """
    elements: Ints = 1 + np.argsort(draws, axis=1).T
    return elements


def undo_transform(cells: Tensor, sizes: Ints, elements: Ints) -> Tensor:
    """Undoes a dihedral transform of each sample's grid, which lies at the top left and turns within its own extent.

    Args:
        cells: (B, S, S, C) values of the transformed grids.
        sizes: (B, 2) height and width of each grid before the transform.
        elements: (B,) dihedral elements that were applied.
    Returns:
        (B, S, S, C); cells outside the grid have no meaning.
    """
    side = cells.shape[1]
    indices = np.arange(side * side, dtype=np.int64).reshape(side, side)
    source = np.tile(indices, (len(cells), 1, 1))
    for row, ((height, width), element) in enumerate(zip(transform_extents(sizes, elements), elements, strict=True)):
        # The index of the cell that comes to lie at (i, j) when the transformed rectangle is transformed back.
        restored = dihedral(indices[:height, :width], invert_dihedral(int(element)))  # type: ignore[arg-type]  # indices
        source[row, : restored.shape[0], : restored.shape[1]] = restored
    (source_cells,) = upload([source], cells.device)
    flat = source_cells.flatten(1)[..., None].expand(-1, -1, cells.shape[-1])
    return cells.flatten(1, 2).gather(1, flat).view_as(cells)


def magnitude_loss(original: Deltas, transformed: Deltas) -> Tensor:
    """Returns the squared difference of the norms of two sets of weight changes, mean over layers and samples."""
    norms = [(delta_norm(original[name]), delta_norm(transformed[name])) for name in original]
    return torch.stack([(one - other).square().mean() for one, other in norms]).mean()


def delta_distance(original: Deltas, transformed: Deltas) -> Tensor:
    """Returns the Frobenius distance of two sets of weight changes, mean over layers and samples."""
    distances = []
    for name, one in original.items():
        other = transformed[name]
        # The difference of two rank-R changes is one change of rank 2R.
        difference = LowRankDelta(torch.cat([one.down, other.down], dim=2), torch.cat([one.up, -other.up], dim=1))
        distances.append(delta_norm(difference).mean())
    return torch.stack(distances).mean()


def answer_loss(original: Tensor, transformed: Tensor, sizes: Ints, elements: Ints) -> Tensor:
    """Returns the mean squared difference of the class probabilities of the answers' cells, mean over samples.

    Args:
        original: (B, S, S, C) logits of the queries.
        transformed: (B, S, S, C) logits of their transformed copies.
        sizes: (B, 2) height and width of the true answers to the queries.
        elements: (B,) dihedral elements of the copies.
    """
    restored = undo_transform(transformed, sizes, elements)
    difference = (torch.softmax(original, -1) - torch.softmax(restored, -1)).square().sum(-1)
    inside = extent_mask(upload([sizes], original.device)[0], original.shape[1])
    return ((difference * inside).sum((1, 2)) / inside.sum((1, 2))).mean()


def equivariance_loss(
    model: Model, predict_deltas: Callable[[Inputs], Deltas], tensors: TaskTensors, queries: Queries, original: Outputs,
    elements: Ints,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """Compares queries with transformed copies of themselves, whose grids are encoded anew.

    Args:
        model: the model as training calls it; it answers the first copy.
        predict_deltas: predicts HyperLoRA's weight changes without answering, for the other copies.
        tensors: training tasks with all answers.
        queries: B training queries.
        original: the model's outputs for `queries`.
        elements: (copies, B) dihedral elements.
    Returns:
        loss: scalar, `magnitude_loss` of all copies (mean) plus `answer_loss` of the first.
        metrics: scalars equiv_loss and equiv_delta_norm.
    """
    side = original.logits.shape[2]
    sizes = transform_extents(tensors.grid_sizes[2 * queries.pairs + 1], queries.elements)
    magnitudes, distances, answers = [], [], original.logits.new_zeros(())
    for index, element_of_query in enumerate(elements):
        inputs = build_inputs(tensors, transform_queries(queries, element_of_query), side)
        if index == 0:
            outputs = model(inputs)
            deltas = outputs.deltas
            answers = answer_loss(original.logits[:, -1], outputs.logits[:, -1], sizes, element_of_query)
        else:
            deltas = predict_deltas(inputs)
        magnitudes.append(magnitude_loss(original.deltas, deltas))
        distances.append(delta_distance(original.deltas, deltas).detach())
    loss = torch.stack(magnitudes).mean() + answers
    return loss, {"equiv_loss": loss.detach(), "equiv_delta_norm": torch.stack(distances).mean()}
