"""A JEPA's tasks as tokens: computed or read from shards, and split into tasks to learn from and held-out ones."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from arc_core.errors import InputError
from jepa_hrl.jepa.config import JepaConfig
from jepa_hrl.jepa.data.shards import content_fractions, read_shards
from jepa_hrl.jepa.data.tasks import training_spec, training_tasks
from jepa_hrl.jepa.data.token_table import Integers, TokenTable, build_table


@dataclass(frozen=True)
class JepaData:
    """Tokens of all tasks, and how they are split.

    Attributes:
        spec: data spec of the tasks.
        table: tokens of all of them.
        learnt: indices of the tasks to learn from.
        held_out: indices of the tasks for validation.
    """

    spec: str
    table: TokenTable
    learnt: Integers
    held_out: Integers


def load_data(config: JepaConfig, console: Console) -> JepaData:
    """Loads tasks as tokens and splits them by their content.

    Raises:
        InputError: the tasks cannot be learned from, or the pre-tokenised shards are of other tasks.
    """
    encoder = config.object_encoder
    if config.pre_tokenized.path is not None:
        spec = training_spec(config.data, console)
        table, fractions = read_shards(Path(config.pre_tokenized.path), config, console)
    else:
        spec, tasks = training_tasks(config.data, console)
        console.print(f"tokens of {len(tasks):,} tasks ...", highlight=False)
        table = build_table(tasks, encoder.connectivity == 8, encoder.one_color, workers=-1)
        fractions = content_fractions(tasks)
    held_out = fractions < config.data.held_out
    if held_out.all() or len(table) - held_out.sum() < 2:
        raise InputError(f"{spec} must leave at least two tasks to learn from; it has {len(table)}")
    return JepaData(spec, table, np.flatnonzero(~held_out), np.flatnonzero(held_out))
