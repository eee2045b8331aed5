"""A task's tokens in every turn, and the views that show different grids.

G grids of a task (inputs and outputs in turn), V views.
"""

import numpy as np
import numpy.typing as npt
import torch

from arc_core.augment import NUM_DIHEDRAL
from arc_core.extents import Ints
from arc_core.grid import MAX_SIDE, NUM_COLORS
from arc_core.task import Task
from arc_core.tensors import TaskTensors
from hrm.data.identities import random_views
from hrm.data.tokens import FIRST_COLOR, encode

CELLS = MAX_SIDE**2
Bytes = npt.NDArray[np.uint8]
_RETRIES = 5  # times as many views as asked for are tried before a symmetric task gets fewer


def turned_tokens(task: Task) -> Bytes:
    """(8, G, 900) tokens of a task's grids under each dihedral element, in its own colours, at the top left."""
    tensors = TaskTensors.from_tasks([task])
    grids = torch.arange(len(tensors.grid_sizes))
    elements = torch.arange(NUM_DIHEDRAL).repeat_interleave(len(grids))
    colors = torch.arange(NUM_COLORS, dtype=torch.uint8).repeat(len(elements), 1)
    canvas, sizes = tensors.gather(grids.repeat(NUM_DIHEDRAL), elements, colors, MAX_SIDE)
    return np.asarray(encode(canvas, sizes).view(NUM_DIHEDRAL, len(grids), CELLS).numpy())


def distinct_views(task: Task, num_aug: int, seed: int) -> tuple[Ints, Bytes]:
    """The task's own view and up to `num_aug` that show other grids: (V,) elements and (V, 10) colour tables.

    Two views show the same if the turned grids have their colours in the same pattern and the tables name those
    colours alike; so they are compared without making their tokens.
    """
    orders, patterns = zip(*map(_pattern, turned_tokens(task)), strict=True)
    kinds = np.array([patterns.index(pattern) for pattern in patterns], dtype=np.uint8)
    order = np.stack(orders)
    elements, colors = random_views(task.task_id, num_aug, seed, 0)
    for attempt in range(1, _RETRIES + 1):
        names = np.take_along_axis(colors, order[elements], axis=1)
        keys = np.concatenate([kinds[elements, None], names], axis=1)
        kept = np.sort(np.unique(keys, axis=0, return_index=True)[1])[: num_aug + 1]
        elements, colors = elements[kept], colors[kept]
        if len(kept) > num_aug or attempt == _RETRIES:
            break
        more = random_views(task.task_id, num_aug, seed, attempt)
        elements, colors = np.concatenate([elements, more[0]]), np.concatenate([colors, more[1]])
    return elements, colors


def _pattern(tokens: Bytes) -> tuple[npt.NDArray[np.intp], bytes]:
    """The colours of (G, 900) tokens in the order in which they first appear, and the tokens renamed in that order."""
    flat = tokens.ravel()
    first = {color: int(is_it.argmax()) for color in range(NUM_COLORS) if (is_it := flat == FIRST_COLOR + color).any()}
    order = np.array(sorted(first, key=first.__getitem__), dtype=np.intp)
    names = np.arange(256, dtype=np.uint8)
    names[FIRST_COLOR + order] = FIRST_COLOR + np.arange(len(order))
    return order, names[flat].tobytes()
