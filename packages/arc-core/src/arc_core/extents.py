"""The canvas extent in which an answer of unknown size is decoded; it grows while answers reach its border.

B queries, N demonstrations.
"""

import numpy as np
import numpy.typing as npt

from arc_core.grid import MAX_SIDE
from arc_core.tensors import TaskTensors

Ints = npt.NDArray[np.int64]


def answer_extents(tensors: TaskTensors, pairs: Ints, demos: Ints) -> Ints:
    """Estimates the first extent for the answers of queries, without looking at the answers.

    The extent holds the test input, every grid of the demonstrations and, if the demonstrations agree on the ratio of
    output to input, the test input scaled by it; plus one row and one column of outside cells; at most 30.

    Args:
        tensors: grids of the tasks.
        pairs: (B,) index of each query's pair.
        demos: (B, N) indices of its demonstrations' pairs, -1 for none.
    Returns:
        (B, 2) heights and widths, before any dihedral element is applied.
    """
    present = (demos >= 0)[..., None]
    sources = tensors.grid_sizes[2 * np.maximum(demos, 0)]  # (B, N, 2)
    targets = tensors.grid_sizes[2 * np.maximum(demos, 0) + 1]
    query = tensors.grid_sizes[2 * pairs]
    shown = np.where(present, np.maximum(sources, targets), 0).max(axis=1)
    first = np.argmax(demos >= 0, axis=1)
    rows = np.arange(len(pairs))
    first_source, first_target = sources[rows, first], targets[rows, first]
    same_ratio = np.where(present, targets * first_source[:, None] == sources * first_target[:, None], True).all(axis=1)
    scaled = np.where(same_ratio, -(-query * first_target // first_source), 0)
    extents: Ints = np.minimum(np.maximum(np.maximum(shown, query), scaled) + 1, MAX_SIDE)
    return extents


def grow_extent(extents: Ints) -> Ints:
    """Enlarges extents by half, up to 30, for answers that reach the border of theirs."""
    return np.minimum(-(-extents * 3 // 2), MAX_SIDE)


def transposes(elements: Ints) -> npt.NDArray[np.bool_]:
    """Whether dihedral elements exchange height and width: an odd rotation or a transposition, but not both."""
    return np.not_equal(elements % 2, elements // 4)


def transform_extents(extents: Ints, elements: Ints) -> Ints:
    """Returns the heights and widths of grids after dihedral elements are applied to them.

    Args:
        extents: (B, 2) heights and widths before.
        elements: (B,) dihedral elements.
    """
    return np.where(transposes(elements)[:, None], extents[:, ::-1], extents)
