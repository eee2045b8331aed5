"""How far apart grids are: by latents, and plainly by cells. T tasks, B pairs, D channels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional

from arc_core.task import Task
from jepa_hrl.jepa.opened import OpenedJepa

Floats = npt.NDArray[np.float64]


def distance(one: Tensor, other: Tensor) -> Tensor:
    """(B,) 1 - cosine of latents, 0..2: the distance that InfoNCE learns."""
    return 1 - functional.cosine_similarity(one, other, dim=1)


def demonstrations_alone(task: Task) -> Task:
    """A task of the demonstrations without the tests; the last one takes the test's place."""
    return replace(task, train=task.train[:-1], test=task.train[-1:])


def latent_distances(jepa: OpenedJepa, tasks: Sequence[Task]) -> Floats:
    """(T,) mean distance of predicted and actual latents of the demonstrations' outputs."""
    found = jepa.latents([demonstrations_alone(task) for task in tasks], workers=-1)
    pairs = distance(found.predictions, found.outputs).double().cpu().numpy()
    counts = [len(task.train) for task in tasks]
    return np.array([part.mean() for part in np.split(pairs, np.cumsum(counts)[:-1])])


def pixel_distances(tasks: Sequence[Task]) -> Floats:
    """(T,) mean share of cells that differ between a demonstration's input and output; 1 where sizes do."""
    found = []
    for task in tasks:
        shares = [
            float((pair.input != pair.output).mean())
            if pair.output is not None and pair.input.shape == pair.output.shape
            else 1.0
            for pair in task.train
        ]
        found.append(sum(shares) / len(shares))
    return np.array(found)
