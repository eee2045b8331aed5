"""How far apart grids are: by latents, and plainly by cells. T tasks, B pairs, D channels."""

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
    """(T,) mean distance of predicted and actual latents of outputs, each pair predicted from its task's other pairs.

    Tests are pairs like the others, so their outputs must be known: a figure for reports, not for solvers.

    Args:
        colorings: whose mean it is: a task is as hard whatever its colours are called, so what the names do is noise.
    """
    counts = [len(task.train) + len(task.test) for task in tasks]
    sums = np.zeros(sum(counts))
    for view in voting_views(1, colorings, 0):
        found = jepa.latents([view.apply_to_task(task) for task in tasks], workers=-1)
        sums += cosine_distance(found.predictions, found.outputs).double().cpu().numpy()
    return np.array([part.mean() for part in np.split(sums / colorings, np.cumsum(counts)[:-1])])


def pixel_distances(tasks: Sequence[Task]) -> Floats:
    """(T,) mean share of cells that differ between a pair's input and output; 1 where sizes do."""
    found = []
    for task in tasks:
        shares = [
            float((pair.input != pair.output).mean())
            if pair.output is not None and pair.input.shape == pair.output.shape
            else 1.0
            for pair in task.train + task.test
        ]
        found.append(sum(shares) / len(shares))
    return np.array(found)
