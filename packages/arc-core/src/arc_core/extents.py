"""Where an answer of unknown size is sought: extents from the demonstrations, grown while answers reach their end.

B queries, N demonstrations.
"""

import numpy as np
import numpy.typing as npt

from arc_core.grid import MAX_SIDE
from arc_core.tensors import TaskTensors

Ints = npt.NDArray[np.int64]


def answer_extents(tensors: TaskTensors, pairs: Ints, demos: Ints) -> Ints:
    """(B, 2) where the answers of queries are first sought, before turning; answers are not looked at.

    The extent holds the test input, every shown grid, and the test input scaled as the demonstrations scale
    theirs if they agree; then one ring of outside cells, at most 30.
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


def grow_extent(live: Ints) -> Ints:
    """The next extent to seek answers in that reach the end of theirs: half as much again."""
    return np.minimum(-(-live * 3 // 2), MAX_SIDE)


def transposes(elements: Ints) -> npt.NDArray[np.bool_]:
    """Whether dihedral elements exchange height and width: an odd quarter turn or a transposition, not both."""
    return np.not_equal(elements % 2, elements // 4)


def transform_extents(extents: Ints, elements: Ints) -> Ints:
    """(B, 2) heights and widths after turning."""
    return np.where(transposes(elements)[:, None], extents[:, ::-1], extents)
