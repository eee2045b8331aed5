"""Tokens of all grids of a data set, ragged, and which grids are pairs of which task.

T tasks, P pairs, G = 2 P grids: grid 2p is pair p's input and 2p + 1 its output. N objects of all grids.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from joblib import delayed

from arc_core.datasets import fingerprint
from arc_core.errors import InputError
from arc_core.grid import Grid
from arc_core.task import Task
from jepa_hrl.objects.tokens import tokenize
from jepa_hrl.workers import run_in_workers

Floats = npt.NDArray[np.float16]
Integers = npt.NDArray[np.int64]

_GRIDS_A_JOB = 1000


@dataclass(frozen=True)
class TokenTable:
    """Attributes:
    objects: (N, OBJECT_FIELDS) float16, grid after grid.
    grids: (G, GRID_FIELDS) float16.
    starts: (G + 1,) a grid's objects are starts[g]..starts[g + 1].
    tasks: (T + 1,) a task's pairs are tasks[t]..tasks[t + 1], its test pairs last.
    fingerprint: of the tasks.
    """

    objects: Floats
    grids: Floats
    starts: Integers
    tasks: Integers
    fingerprint: str

    def __len__(self) -> int:
        """T."""
        return len(self.tasks) - 1


def joined(parts: Sequence[TokenTable], fingerprint: str) -> TokenTable:
    """The tables of parts of a data set as one."""
    lengths = np.concatenate([np.diff(part.starts) for part in parts])
    counts = np.concatenate([np.diff(part.tasks) for part in parts])
    return TokenTable(
        np.concatenate([part.objects for part in parts]),
        np.concatenate([part.grids for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([[0], np.cumsum(counts)]),
        fingerprint,
    )


def table_of_grids(
    grids: Sequence[Grid], eight: bool, one_color: bool, fingerprint: str, workers: int = 1
) -> TokenTable:
    """The table of grids that are of no task.

    Args:
        eight, one_color: see `extract_objects`.
    """
    starts = range(0, len(grids), _GRIDS_A_JOB)
    jobs = (delayed(_table)(grids[s : s + _GRIDS_A_JOB], eight, one_color) for s in starts)
    return joined(list(run_in_workers(jobs, workers if len(starts) > 1 else 1, return_as="list")), fingerprint)


def _table(grids: Sequence[Grid], eight: bool, one_color: bool) -> TokenTable:
    tokens = tokenize(grids, eight, one_color)
    starts = np.concatenate([[0], np.cumsum(tokens.counts)])
    no_task = np.zeros(1, dtype=np.int64)
    return TokenTable(tokens.objects.astype(np.float16), tokens.grids.astype(np.float16), starts, no_task, "")


def build_table(tasks: Sequence[Task], eight: bool = True, one_color: bool = True, workers: int = 1) -> TokenTable:
    """The table of tasks whose tests have outputs.

    Args:
        eight, one_color: see `extract_objects`.
    Raises:
        InputError: a pair has no output.
    """
    pairs = [pair for task in tasks for pair in task.train + task.test]
    grids = [grid for pair in pairs for grid in (pair.input, pair.output) if grid is not None]
    if len(grids) < 2 * len(pairs):
        raise InputError("the JEPA learns from pairs: every test must have its output")
    places = np.concatenate([[0], np.cumsum([len(task.train) + len(task.test) for task in tasks])])
    return replace(table_of_grids(grids, eight, one_color, fingerprint(tasks), workers), tasks=places)
