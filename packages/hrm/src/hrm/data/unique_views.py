"""A task's tokens under every dihedral element, and the views that show different grids.

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
from hrm.data.identities import draw_random_views
from hrm.data.tokens import FIRST_COLOR, encode

CELLS = MAX_SIDE**2
Bytes = npt.NDArray[np.uint8]
_MAX_ATTEMPTS = 5  # draws of as many views as asked for, before a symmetric task gets fewer


def encode_all_turns(task: Task) -> Bytes:
    """Encodes a task's grids under each dihedral element, in their own colours, at the top left: (8, G, 900) tokens."""
    tensors = TaskTensors.from_tasks([task])
    grids = torch.arange(len(tensors.grid_sizes))
    elements = torch.arange(NUM_DIHEDRAL).repeat_interleave(len(grids))
    colors = torch.arange(NUM_COLORS, dtype=torch.uint8).repeat(len(elements), 1)
    canvas, sizes = tensors.gather(grids.repeat(NUM_DIHEDRAL), elements, colors, MAX_SIDE)
    return np.asarray(encode(canvas, sizes).view(NUM_DIHEDRAL, len(grids), CELLS).numpy())


def draw_unique_views(task: Task, num_aug: int, seed: int) -> tuple[Ints, Bytes]:
    """Draws the task's own view and others that all show different grids.

    Two views show the same if the turned grids have their colours in the same pattern and the tables map those
    colours alike; so they are compared without making their tokens.

    Args:
        task: a symmetric task has fewer views than asked for.
        num_aug: largest number of views beside the task's own.
        seed: of the views.
    Returns:
        (V,) dihedral elements and (V, 10) colour tables, the task's own view first.
    """
    orders, patterns = zip(*map(_canonicalize_colors, encode_all_turns(task)), strict=True)
    pattern_index = np.array([patterns.index(pattern) for pattern in patterns], dtype=np.uint8)
    order = np.stack(orders)
    elements, colors = draw_random_views(task.task_id, num_aug, seed, 0)
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        colors_in_order = np.take_along_axis(colors, order[elements], axis=1)
        keys = np.concatenate([pattern_index[elements, None], colors_in_order], axis=1)
        kept = np.sort(np.unique(keys, axis=0, return_index=True)[1])[: num_aug + 1]
        elements, colors = elements[kept], colors[kept]
        if len(kept) > num_aug or attempt == _MAX_ATTEMPTS:
            break
        more_elements, more_colors = draw_random_views(task.task_id, num_aug, seed, attempt)
        elements, colors = np.concatenate([elements, more_elements]), np.concatenate([colors, more_colors])
    return elements, colors


def _canonicalize_colors(tokens: Bytes) -> tuple[npt.NDArray[np.intp], bytes]:
    """Returns the colours of (G, 900) tokens in order of first appearance, and the tokens recoloured in that order."""
    flat = tokens.ravel()
    first = {color: int(is_it.argmax()) for color in range(NUM_COLORS) if (is_it := flat == FIRST_COLOR + color).any()}
    order = np.array(sorted(first, key=first.__getitem__), dtype=np.intp)
    recolor = np.arange(256, dtype=np.uint8)
    recolor[FIRST_COLOR + order] = FIRST_COLOR + np.arange(len(order))
    return order, recolor[flat].tobytes()
