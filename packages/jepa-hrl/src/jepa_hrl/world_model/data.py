"""Triples in memory: every different grid once, as tokens, and what leads from which to which.

G grids, R records, S steps of a program.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from arc_core.config import workspace_folder
from arc_core.errors import InputError
from arc_core.files import show_path
from arc_core.grid import grid_from_rows
from jepa_hrl.dsl.steps import Arguments
from jepa_hrl.dsl.types import Array
from jepa_hrl.jepa.config import EncoderConfig
from jepa_hrl.jepa.data.tasks import curriculum_manifest
from jepa_hrl.jepa.data.token_table import TokenTable, table_of_grids
from jepa_hrl.world_model.actions import ActionSet
from jepa_hrl.world_model.config import ProgramJepaConfig
from jepa_hrl.world_model.triples import source_file, table_of, write_triples

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Triples:
    """Attributes:
    grids: (G) all different grids.
    sources, outcomes: (R,) grids before and after.
    actions: (R,) numbers.
    arguments: (R,) rows of `argument_rows`.
    argument_rows: (n, ARGUMENT_FEATURES) all different arguments.
    following: (R,) the record of a trace's next step, -1 where there is none.
    explored: (R,) bool, not of a task's own program.
    held_out: (R,) bool, of tasks that are not learnt.
    fingerprint: of the file.
    spec: what was learnt from, for declarations.
    """

    grids: list[Array]
    sources: Integers
    outcomes: Integers
    actions: Integers
    arguments: Integers
    argument_rows: Floats
    following: Integers
    explored: npt.NDArray[np.bool_]
    held_out: npt.NDArray[np.bool_]
    fingerprint: str
    spec: str


def triples_file(config: ProgramJepaConfig, actions: ActionSet, console: Console) -> tuple[Path, str]:
    """The file of triples, made from the curriculum where it is missing, and the data spec that it came from.

    Raises:
        InputError: a given file is missing, or does not say where it came from.
    """
    if config.dataset_triples is not None:
        path = Path(config.dataset_triples)
        if not path.is_file():
            raise InputError(f"dataset_triples must be what prepare-program-triples wrote; {path} does not exist")
        try:
            manifest = Path(json.loads(source_file(path).read_text(encoding="utf-8"))["manifest"])
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"{show_path(source_file(path))} must say what tasks the triples were made of, which every result "
                f"declares; write both with prepare-program-triples"
            ) from None
        return path, f"manifest:{show_path(manifest)}"
    manifest = curriculum_manifest(config.triples.curriculum, console)
    name = f"{config.triples.curriculum}-explored{config.triples.explored}-seed{config.training.seed}.jsonl"
    path = workspace_folder() / "data" / "program_triples" / name
    if not source_file(path).exists() or path.stat().st_mtime < manifest.stat().st_mtime:
        console.print(f"writing triples to {show_path(path)}", highlight=False, soft_wrap=True)
        write_triples(manifest, path, actions, config.triples.explored, config.training.seed, -1, console)
    return path, f"manifest:{show_path(manifest)}"


def read_triples(path: Path, spec: str, actions: ActionSet, held_out: float) -> Triples:
    """The records of a file whose steps are among the actions.

    Raises:
        InputError: a line is no record, or too few are left to learn from.
    """
    grids: list[Array] = []
    numbers: dict[tuple[tuple[int, ...], bytes], int] = {}
    rows: dict[tuple[int, ...], int] = {}
    features: list[Floats] = []
    columns: list[tuple[int, int, int, int, bool, bool]] = []
    places: dict[tuple[str, int, int], int] = {}
    keys: list[tuple[str, int, int] | None] = []
    digest = hashlib.sha256()

    def intern(cells: object) -> int:
        grid = grid_from_rows(cells)
        key = grid.shape, grid.tobytes()
        if key not in numbers:
            numbers[key] = len(grids)
            grids.append(grid)
        return numbers[key]

    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            digest.update(line)
            try:
                record = json.loads(line)
                step, arguments = str(record["program"]["type"]), dict(record["program"]["args"])
                about = record.get("metadata", {})
                action = actions.index_of(step, arguments)
                if action is None:
                    continue
                source, outcome = intern(record["input"]), intern(record["output"])
                argument = _row(actions, action, arguments, rows, features)
                task_id, explored = str(about.get("task_id", number)), bool(about.get("explored", False))
                place = (task_id, int(about.get("pair", 0)), int(about.get("step", 0)))
            except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
                raise InputError(
                    f"{show_path(path)}, line {number}: must be a record of input, program and output, as "
                    f"prepare-program-triples writes it; {type(error).__name__}: {error}"
                ) from None
            held = int(hashlib.sha256(task_id.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) / 16**8 < held_out
            if not explored:
                places[place] = len(columns)
            keys.append(None if explored else place)
            columns.append((source, outcome, action, argument, explored, held))
    if not columns:
        raise InputError(f"{show_path(path)} has no step that is among the actions")
    table = np.array([column[:4] for column in columns], dtype=np.int64)
    flags = np.array([column[4:] for column in columns], dtype=bool)
    next_places = [None if key is None else places.get((key[0], key[1], key[2] + 1)) for key in keys]
    following = np.array([-1 if place is None else place for place in next_places], dtype=np.int64)
    # A trace that left out a step does not go on.
    following[table[following, 0] != table[:, 1]] = -1
    own_held = flags[:, 1] & ~flags[:, 0]
    if own_held.sum() < 64 or (~flags[:, 1]).sum() < 2:
        raise InputError(
            f"{show_path(path)} must have at least 64 held-out steps of programs beside those to learn; it has "
            f"{int(own_held.sum())} of {len(columns)} records"
        )
    return Triples(
        grids, table[:, 0], table[:, 1], table[:, 2], table[:, 3], np.stack(features), following, flags[:, 0],
        flags[:, 1], digest.hexdigest()[:16], spec,
    )  # fmt: skip


def _row(
    actions: ActionSet, action: int, arguments: Arguments, rows: dict[tuple[int, ...], int], features: list[Floats]
) -> int:
    """The number of an action's arguments among all different ones."""
    table = table_of(arguments)
    key = (actions.actions[action].color or 0, *(10 * old + new for old, new in sorted(table.items())))
    if key not in rows:
        rows[key] = len(features)
        features.append(actions.argument_features(action, table))
    return rows[key]


def tokenize_grids(grids: Sequence[Array], encoder: EncoderConfig, fingerprint: str, workers: int = 1) -> TokenTable:
    """The tokens of grids as a table, which knows of no tasks."""
    return table_of_grids(grids, encoder.connectivity == 8, encoder.one_color, fingerprint, workers)


@dataclass(frozen=True)
class Programs:
    """Programs applied to grids.

    Attributes:
        sources: (B,) grids.
        actions: (B, S) numbers, 0 after the end.
        arguments: (B, S) rows.
        outcomes: (B, S) grids after each action, -1 after the end.
    """

    sources: Integers
    actions: Integers
    arguments: Integers
    outcomes: Integers


class Starts:
    """Records by the grid that they start from."""

    def __init__(self, triples: Triples, chosen: npt.NDArray[np.bool_]) -> None:
        """Takes the chosen records."""
        records = np.flatnonzero(chosen)
        self._triples = triples
        self._records = records[np.argsort(triples.sources[records], kind="stable")]
        self.grids, self._first, self._counts = np.unique(
            triples.sources[self._records], return_index=True, return_counts=True
        )

    def __len__(self) -> int:
        """Grids."""
        return len(self.grids)

    def draw(self, places: Integers, most: int, length: int, rng: np.random.Generator) -> Programs:
        """Up to `most` programs of up to `length` actions for each of some grids, by their places."""
        counts = self._counts[places]
        ranks = rng.random((len(places), int(counts.max())))
        ranks[np.arange(ranks.shape[1]) >= counts[:, None]] = 2.0
        order = ranks.argsort(axis=1)[:, :most]
        there = np.arange(order.shape[1]) < counts[:, None]
        record = self._records[(self._first[places][:, None] + order)[there]]
        return follow(self._triples, record, length)


def follow(triples: Triples, records: Integers, length: int) -> Programs:
    """The programs that begin with some records and go on as their traces do."""
    steps = [records]
    while len(steps) < length and (steps[-1] >= 0).any():
        steps.append(np.where(steps[-1] >= 0, triples.following[steps[-1]], -1))
    table = np.stack(steps, axis=1)
    there = table >= 0
    return Programs(
        triples.sources[records],
        np.where(there, triples.actions[table], 0),
        np.where(there, triples.arguments[table], 0),
        np.where(there, triples.outcomes[table], -1),
    )
