"""The latent as a guide of the program search: values near the goal's latents are expanded first."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from arc_core.device import solving_device
from arc_core.grid import Grid
from arc_core.task import Pair, Task
from jepa_hrl.jepa.checkpoint import LoadedJepa, load_jepa
from jepa_hrl.jepa.losses.similarity import cosine_distance
from jepa_hrl.search.engine import Heuristic


@lru_cache(maxsize=1)
def _opened(path: Path, device: str) -> LoadedJepa:
    """Once a process."""
    return load_jepa(path, solving_device(device))


@dataclass(frozen=True)
class LatentGuide:
    """Delays by latent distance; can be sent to other processes.

    Attributes:
        path: of the JEPA's checkpoint.
        weight: bits that a distance of 1 delays a value's expansion by.
    """

    path: Path
    device: str = "cpu"
    weight: float = 8.0

    def __call__(self, task: Task) -> Heuristic:
        """How many bits the expansion of a value, grids for all of a task's inputs, is to be put off.

        The goal is the latents of the demonstrations' outputs and, for the tests, what the JEPA predicts of theirs.
        """
        jepa = _opened(self.path, self.device)
        # A test's own input in place of its unknown output: a prediction does not look at its pair's output.
        tests = [Task(task.task_id, task.train, (Pair(pair.input, pair.input),)) for pair in task.test]
        found = jepa.latents(tests, tests_are_demonstrations=False)
        goals = torch.cat([found.outputs[: len(task.train)], found.predictions[found.last]])

        def delay(grids: tuple[Grid, ...]) -> float:
            latents = jepa.grid_latents([np.ascontiguousarray(grid) for grid in grids])
            return self.weight * float(cosine_distance(latents, goals).mean())

        return delay
