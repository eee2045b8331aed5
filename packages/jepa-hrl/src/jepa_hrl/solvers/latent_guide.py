"""A heuristic for the program search: values whose latents are near the goal's are expanded first."""

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
def _load_jepa_once(path: Path, device: str) -> LoadedJepa:
    """Loads a JEPA, once in every process."""
    return load_jepa(path, solving_device(device))


@dataclass(frozen=True)
class LatentGuide:
    """Makes heuristics of a JEPA's latents; can be pickled for other processes.

    Attributes:
        path: run or checkpoint of the JEPA.
        device: where to load it.
        weight: bits by which a cosine distance of 1 delays a value's expansion.
    """

    path: Path
    device: str = "cpu"
    weight: float = 8.0

    def __call__(self, task: Task) -> Heuristic:
        """Returns the heuristic of a task: by how many bits to delay the expansion of a value.

        A value is a grid for each of the task's inputs. The goal is the latents of the demonstrations' outputs and, for
        the tests, the latents that the JEPA predicts of their outputs.
        """
        jepa = _load_jepa_once(self.path, self.device)
        # A test's own input in place of its unknown output: a prediction does not look at its pair's output.
        tests = [Task(task.task_id, task.train, (Pair(pair.input, pair.input),)) for pair in task.test]
        latents = jepa.latents(tests, tests_are_demonstrations=False)
        goals = torch.cat([latents.outputs[: len(task.train)], latents.predictions[latents.last]])

        def delay(grids: tuple[Grid, ...]) -> float:
            value_latents = jepa.grid_latents([np.ascontiguousarray(grid) for grid in grids])
            return self.weight * float(cosine_distance(value_latents, goals).mean())

        return delay
