"""Triples in memory: every distinct grid once, and which action leads from which grid to which.

G grids, R records, B programs of up to S steps.
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
from jepa_hrl.world_model.triples import parse_color_table, provenance_file, write_triples

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Triples:
    """The records of a file.

    Attributes:
        grids: the G distinct grids.
        sources: (R,) index of the grid before each action.
        outcomes: (R,) index of the grid after it.
        actions: (R,) index of the action.
        arguments: (R,) row of its arguments in `argument_rows`.
        argument_rows: (n, ARGUMENT_FEATURES) all distinct arguments.
        next_records: (R,) index of the record of the trace's next step, -1 if there is none.
        explored: (R,) bool, whether the record is of another action than the task's own program.
        held_out: (R,) bool, whether the record is of a held-out task.
        fingerprint: of the file.
        spec: data spec of the tasks, which results declare.
    """

    grids: list[Array]
    sources: Integers
    outcomes: Integers
    actions: Integers
    arguments: Integers
    argument_rows: Floats
    next_records: Integers
    explored: npt.NDArray[np.bool_]
    held_out: npt.NDArray[np.bool_]
    fingerprint: str
    spec: str


def ensure_triples(config: ProgramJepaConfig, actions: ActionSet, console: Console) -> tuple[Path, str]:
    """Finds the file of triples, or writes it from the curriculum if it is missing.

    Args:
        config: that names the file or the curriculum.
        actions: that records are made of.
        console: shows the progress.
    Returns:
        The file, and the data spec of the tasks that it was made of.
    Raises:
        InputError: a given file is missing, or does not say where it came from.
    """
    if config.dataset_triples is not None:
        path = Path(config.dataset_triples)
        if not path.is_file():
            raise InputError(f"dataset_triples must be what prepare-program-triples wrote; {path} does not exist")
        try:
            manifest = Path(json.loads(provenance_file(path).read_text(encoding="utf-8"))["manifest"])
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"{show_path(provenance_file(path))} must say what tasks the triples were made of, which every result "
                f"declares; write both with prepare-program-triples"
            ) from None
        return path, f"manifest:{show_path(manifest)}"
    manifest = curriculum_manifest(config.triples.curriculum, console)
    name = f"{config.triples.curriculum}-explored{config.triples.explored}-seed{config.training.seed}.jsonl"
    path = workspace_folder() / "data" / "program_triples" / name
    if not provenance_file(path).exists() or path.stat().st_mtime < manifest.stat().st_mtime:
        console.print(f"writing triples to {show_path(path)}", highlight=False, soft_wrap=True)
        write_triples(manifest, path, actions, config.triples.explored, config.training.seed, -1, console)
    return path, f"manifest:{show_path(manifest)}"


def read_triples(path: Path, spec: str, actions: ActionSet, held_out: float) -> Triples:
    """Reads the records of a file whose steps are among the actions.

    Args:
        path: file of triples.
        spec: data spec of the tasks.
        actions: that records are kept for.
        held_out: share of the tasks, chosen by a hash of their names, that is held out.
    Raises:
        InputError: a line is no record, or too few are left to learn from.
    """
    grids: list[Array] = []
    grid_indices: dict[tuple[tuple[int, ...], bytes], int] = {}
    argument_indices: dict[tuple[int, ...], int] = {}
    argument_rows: list[Floats] = []
    records: list[tuple[int, int, int, int, bool, bool]] = []
    step_records: dict[tuple[str, int, int], int] = {}  # by task, pair and step
    keys: list[tuple[str, int, int] | None] = []
    digest = hashlib.sha256()

    def intern(cells: object) -> int:
        grid = grid_from_rows(cells)
        key = grid.shape, grid.tobytes()
        if key not in grid_indices:
            grid_indices[key] = len(grids)
            grids.append(grid)
        return grid_indices[key]

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
                argument = _intern_arguments(actions, action, arguments, argument_indices, argument_rows)
                task_id, explored = str(about.get("task_id", number)), bool(about.get("explored", False))
                key = (task_id, int(about.get("pair", 0)), int(about.get("step", 0)))
            except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
                raise InputError(
                    f"{show_path(path)}, line {number}: must be a record of input, program and output, as "
                    f"prepare-program-triples writes it; {type(error).__name__}: {error}"
                ) from None
            fraction = int(hashlib.sha256(task_id.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) / 16**8
            is_held_out = fraction < held_out
            if not explored:
                step_records[key] = len(records)
            keys.append(None if explored else key)
            records.append((source, outcome, action, argument, explored, is_held_out))
    if not records:
        raise InputError(f"{show_path(path)} has no step that is among the actions")
    table = np.array([record[:4] for record in records], dtype=np.int64)
    flags = np.array([record[4:] for record in records], dtype=bool)
    next_records = np.array(
        [-1 if key is None else step_records.get((key[0], key[1], key[2] + 1), -1) for key in keys], dtype=np.int64
    )
    # A trace ends where a step is left out: the next record then starts from another grid.
    next_records[table[next_records, 0] != table[:, 1]] = -1
    held_out_steps = flags[:, 1] & ~flags[:, 0]
    if held_out_steps.sum() < 64 or (~flags[:, 1]).sum() < 2:
        raise InputError(
            f"{show_path(path)} must have at least 64 held-out steps of programs beside those to learn; it has "
            f"{int(held_out_steps.sum())} of {len(records)} records"
        )
    return Triples(
        grids, table[:, 0], table[:, 1], table[:, 2], table[:, 3], np.stack(argument_rows), next_records, flags[:, 0],
        flags[:, 1], digest.hexdigest()[:16], spec,
    )  # fmt: skip


def _intern_arguments(
    actions: ActionSet, action: int, arguments: Arguments, indices: dict[tuple[int, ...], int], rows: list[Floats]
) -> int:
    """Returns the row of an action's arguments among all distinct ones, and adds it if it is new."""
    table = parse_color_table(arguments)
    key = (actions.actions[action].color or 0, *(10 * old + new for old, new in sorted(table.items())))
    if key not in indices:
        indices[key] = len(rows)
        rows.append(actions.argument_features(action, table))
    return indices[key]


def tokenize_grids(grids: Sequence[Array], encoder: EncoderConfig, fingerprint: str, workers: int = 1) -> TokenTable:
    """Tokenises grids into a table without tasks.

    Args:
        grids: G grids.
        encoder: whose settings say what an object is.
        fingerprint: that the table keeps.
        workers: processes; -1 for one for each core.
    """
    return table_of_grids(grids, encoder.connectivity == 8, encoder.one_color, fingerprint, workers)


@dataclass(frozen=True)
class ProgramBatch:
    """Programs applied to grids.

    Attributes:
        sources: (B,) indices of the grids that programs are applied to.
        actions: (B, S) indices of the actions, 0 after the end.
        arguments: (B, S) rows of the arguments.
        outcomes: (B, S) indices of the grids after each action, -1 after the end.
    """

    sources: Integers
    actions: Integers
    arguments: Integers
    outcomes: Integers


class ProgramSampler:
    """Draws programs by the grid that they are applied to.

    Attributes:
        grids: (n,) indices of the grids that a record starts from.
    """

    def __init__(self, triples: Triples, included: npt.NDArray[np.bool_]) -> None:
        """Groups some records by their source.

        Args:
            triples: all records.
            included: (R,) which records programs begin with.
        """
        records = np.flatnonzero(included)
        self._triples = triples
        self._records = records[np.argsort(triples.sources[records], kind="stable")]
        self.grids, self._first, self._counts = np.unique(
            triples.sources[self._records], return_index=True, return_counts=True
        )

    def __len__(self) -> int:
        """Returns n, the number of grids that programs can be drawn for."""
        return len(self.grids)

    def draw(self, indices: Integers, max_programs: int, max_length: int, rng: np.random.Generator) -> ProgramBatch:
        """Draws distinct programs for each of some grids.

        Args:
            indices: (m,) positions of the grids in `grids`.
            max_programs: programs of a grid, or as many as it has records.
            max_length: actions of a program.
            rng: what they are drawn with.
        """
        counts = self._counts[indices]
        ranks = rng.random((len(indices), int(counts.max())))
        ranks[np.arange(ranks.shape[1]) >= counts[:, None]] = 2.0
        order = ranks.argsort(axis=1)[:, :max_programs]
        exists = np.arange(order.shape[1]) < counts[:, None]
        records = self._records[(self._first[indices][:, None] + order)[exists]]
        return follow_traces(self._triples, records, max_length)


def follow_traces(triples: Triples, records: Integers, max_length: int) -> ProgramBatch:
    """Returns the programs that begin with some records and continue as their traces do.

    Args:
        triples: all records.
        records: (B,) indices of the first records.
        max_length: actions of a program.
    """
    steps = [records]
    while len(steps) < max_length and (steps[-1] >= 0).any():
        steps.append(np.where(steps[-1] >= 0, triples.next_records[steps[-1]], -1))
    table = np.stack(steps, axis=1)
    is_step = table >= 0
    return ProgramBatch(
        triples.sources[records],
        np.where(is_step, triples.actions[table], 0),
        np.where(is_step, triples.arguments[table], 0),
        np.where(is_step, triples.outcomes[table], -1),
    )
