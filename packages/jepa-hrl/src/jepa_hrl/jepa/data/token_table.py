"""Tokens of all grids of a data set in ragged arrays, and which grids are pairs of which task.

T tasks, P pairs, G = 2 P grids: grid 2p is the input of pair p and grid 2p + 1 its output. N objects of all grids.
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
from arc_core.workers import run_in_workers
from jepa_hrl.objects.tokens import tokenize

Floats = npt.NDArray[np.float16]
Integers = npt.NDArray[np.int64]

_GRIDS_PER_JOB = 1000


@dataclass(frozen=True)
class TokenTable:
    """Tokens of the grids of T tasks.

    Attributes:
        objects: (N, OBJECT_FIELDS) float16, grid after grid.
        grids: (G, GRID_FIELDS) float16.
        starts: (G + 1,) the objects of grid g are rows starts[g] to starts[g + 1] of `objects`.
        tasks: (T + 1,) the pairs of task t are tasks[t] to tasks[t + 1], its test pairs last.
        fingerprint: of the tasks.
    """

    objects: Floats
    grids: Floats
    starts: Integers
    tasks: Integers
    fingerprint: str

    def __len__(self) -> int:
        """Returns T, the number of tasks."""
        return len(self.tasks) - 1


def concatenate_tables(parts: Sequence[TokenTable], fingerprint: str) -> TokenTable:
    """Joins the tables of the parts of a data set.

    Args:
        parts: tables, in the order of their tasks.
        fingerprint: of all tasks.
    """
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
    """Tokenises grids that belong to no task.

    Args:
        grids: G grids.
        eight: whether all eight neighbours of a cell belong to its object, or only four.
        one_color: whether objects end where colours change.
        fingerprint: that the table keeps.
        workers: processes; -1 for one for each core.
    """
    starts = range(0, len(grids), _GRIDS_PER_JOB)
    jobs = (delayed(_build_part)(grids[s : s + _GRIDS_PER_JOB], eight, one_color) for s in starts)
    parts = list(run_in_workers(jobs, workers if len(starts) > 1 else 1, return_as="list"))
    return concatenate_tables(parts, fingerprint)


def _build_part(grids: Sequence[Grid], eight: bool, one_color: bool) -> TokenTable:
    """Tokenises grids within one process."""
    tokens = tokenize(grids, eight, one_color)
    starts = np.concatenate([[0], np.cumsum(tokens.counts)])
    no_task = np.zeros(1, dtype=np.int64)
    return TokenTable(tokens.objects.astype(np.float16), tokens.grids.astype(np.float16), starts, no_task, "")


def build_table(tasks: Sequence[Task], eight: bool = True, one_color: bool = True, workers: int = 1) -> TokenTable:
    """Tokenises the grids of tasks.

    Args:
        tasks: T tasks, whose tests have outputs.
        eight: whether all eight neighbours of a cell belong to its object, or only four.
        one_color: whether objects end where colours change.
        workers: processes; -1 for one for each core.
    Raises:
        InputError: a pair has no output.
    """
    pairs = [pair for task in tasks for pair in task.train + task.test]
    grids = [grid for pair in pairs for grid in (pair.input, pair.output) if grid is not None]
    if len(grids) < 2 * len(pairs):
        raise InputError("the JEPA learns from pairs: every test must have its output")
    ends = np.concatenate([[0], np.cumsum([len(task.train) + len(task.test) for task in tasks])])
    return replace(table_of_grids(grids, eight, one_color, fingerprint(tasks), workers), tasks=ends)
