"""A JEPA's tasks as tokens: computed or read from shards, and split into learnt and held out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from arc_core.errors import InputError
from jepa_hrl.jepa.config import JepaConfig
from jepa_hrl.jepa.data.shards import content_draws, read_shards
from jepa_hrl.jepa.data.tasks import training_spec, training_tasks
from jepa_hrl.jepa.data.token_table import Integers, TokenTable, build_table


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
    encoder = config.object_encoder
    if config.pre_tokenized.path is not None:
        spec = training_spec(config.data, console)
        table, draws = read_shards(Path(config.pre_tokenized.path), config, console)
    else:
        spec, tasks = training_tasks(config.data, console)
        console.print(f"tokens of {len(tasks):,} tasks ...", highlight=False)
        table = build_table(tasks, encoder.connectivity == 8, encoder.one_color, workers=-1)
        draws = content_draws(tasks)
    held = draws < config.data.held_out
    if held.all() or len(table) - held.sum() < 2:
        raise InputError(f"{spec} must leave at least two tasks to learn from; it has {len(table)}")
    return JepaData(spec, table, np.flatnonzero(~held), np.flatnonzero(held))
