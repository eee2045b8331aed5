"""A JEPA's tasks as tokens: computed or read from shards, and split into learnt and held out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from arc_core.errors import InputError
from jepa_hrl.jepa.config import JepaConfig
from jepa_hrl.jepa.shards import read_shards
from jepa_hrl.jepa.tasks import training_tasks
from jepa_hrl.jepa.token_table import Integers, TokenTable, build_table


@dataclass(frozen=True)
class JepaData:
    """Attributes:
    spec: of the tasks.
    table: of all of them.
    learnt, held_out: numbers of tasks.
    """

    spec: str
    table: TokenTable
    learnt: Integers
    held_out: Integers


def load_data(config: JepaConfig, console: Console) -> JepaData:
    """Tasks as tokens, split by their content.

    Raises:
        InputError: the tasks cannot be learnt from, or the pre-tokenised shards are of others.
    """
    spec, tasks = training_tasks(config.data, console)
    encoder = config.object_encoder
    if config.pre_tokenized.path is not None:
        table = read_shards(Path(config.pre_tokenized.path), tasks, encoder)
    else:
        console.print(f"tokens of {len(tasks):,} tasks ...", highlight=False)
        table = build_table(tasks, encoder.connectivity == 8, encoder.one_color, workers=-1)
    # A task's content decides, so that more tasks or another order leave the others where they are.
    draws = np.array([int(task.content_hash[:8], 16) / 16**8 for task in tasks])
    held = draws < config.data.held_out
    if held.all() or len(tasks) - held.sum() < 2:
        raise InputError(f"{spec} must leave at least two tasks to learn from; it has {len(tasks)}")
    return JepaData(spec, table, np.flatnonzero(~held), np.flatnonzero(held))
