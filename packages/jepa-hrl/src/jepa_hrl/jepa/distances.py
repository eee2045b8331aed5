"""Distances of tasks: between predicted and actual latents, and between the cells of inputs and outputs. T tasks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from arc_core.task import Task
from arc_core.voting import voting_views
from jepa_hrl.jepa.checkpoint import LoadedJepa
from jepa_hrl.jepa.losses.similarity import cosine_distance

Floats = npt.NDArray[np.float64]
_COLORINGS = 8


def latent_distances(jepa: LoadedJepa, tasks: Sequence[Task], colorings: int = _COLORINGS) -> Floats:
    """Computes the mean cosine distance between predicted and actual latents of each task's outputs.

    Each output is predicted from its input and the task's other pairs. Tests are pairs like the others, so their
    outputs must be known: this is a figure for reports, not for solvers.

    Args:
        jepa: that encodes and predicts.
        tasks: T tasks with the outputs of their tests.
        colorings: permutations of the colours that the distance is averaged over. A task is as hard whatever its
            colours are, so that what differs between permutations is noise.
    Returns:
        (T,) distances in 0..2.
    """
    counts = [len(task.train) + len(task.test) for task in tasks]
    sums = np.zeros(sum(counts))
    for view in voting_views(1, colorings, 0):
        latents = jepa.latents([view.apply_to_task(task) for task in tasks], workers=-1)
        sums += cosine_distance(latents.predictions, latents.outputs).double().cpu().numpy()
    return np.array([part.mean() for part in np.split(sums / colorings, np.cumsum(counts)[:-1])])


def pixel_distances(tasks: Sequence[Task]) -> Floats:
    """Computes the (T,) mean share of cells that differ between a pair's input and output; 1 where the sizes differ."""
    distances = []
    for task in tasks:
        shares = [
            float((pair.input != pair.output).mean())
            if pair.output is not None and pair.input.shape == pair.output.shape
            else 1.0
            for pair in task.train + task.test
        ]
        distances.append(sum(shares) / len(shares))
    return np.array(distances)
