"""Tasks and their JSON form: `{"train": [{"input": rows, "output": rows}, ...], "test": [...]}`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from arc_core.errors import InputError
from arc_core.grid import Grid, GridError, describe, grid_from_rows, hash_grids

MAX_FILE_BYTES = 64 * 2**20  # a set of 1000 tasks takes about 4 MiB; a single task under 1 MiB


class TaskError(InputError):
    """Invalid task data; the message names file, task, pair, side and row, and what must hold."""


@dataclass(frozen=True, eq=False)
class Pair:
    """An input grid and its output grid.

    Attributes:
        input: the input grid.
        output: the output grid; None where the answer is withheld.
    """

    input: Grid
    output: Grid | None


@dataclass(frozen=True, eq=False)
class Task:
    """An ARC task.

    Attributes:
        task_id: id of the task in its data set.
        train: the demonstrations; their outputs are always present.
        test: the test pairs; their outputs may be withheld.
        concept: topic of the task, where its data set has one: ConceptARC's folder, a synthetic task's phase.
    """

    task_id: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    concept: str | None = None

    def without_answers(self) -> "Task":
        """Returns the task without its test outputs and its concept, which is all that a solver may see."""
        return replace(self, test=tuple(replace(pair, output=None) for pair in self.test), concept=None)

    @property
    def longest_side(self) -> int:
        """The longest side of all grids of the task, except withheld ones."""
        grids = [grid for pair in self.train + self.test for grid in (pair.input, pair.output) if grid is not None]
        return max(max(int(side) for side in grid.shape) for grid in grids)

    @property
    def has_answers(self) -> bool:
        """Whether every test output is present."""
        return all(pair.output is not None for pair in self.test)

    @cached_property
    def content_hash(self) -> str:
        """32 hexadecimal digits of a hash over all grids in order, without the id."""
        digest = hashlib.blake2b(digest_size=16)
        for pairs in (self.train, self.test):
            digest.update(b"pairs")
            for pair in pairs:
                shown = [pair.input] if pair.output is None else [pair.input, pair.output]
                digest.update(hash_grids(shown).encode())
        return digest.hexdigest()


def _parse_pairs(value: object, side: str, where: str) -> tuple[Pair, ...]:
    """Converts the list under "train" or "test" (`side`) to pairs; `where` locates it in error messages."""
    if not isinstance(value, list) or not value:
        came = "an empty list" if value == [] else describe(value)
        raise TaskError(f"{where}: '{side}' must be a list of at least one pair; got {came}")
    pairs = []
    for index, item in enumerate(value):
        at = f"{where}, {side} pair {index}"
        if not isinstance(item, dict):
            raise TaskError(f"{at} must be an object with 'input' and 'output'; got {describe(item)}")
        if "input" not in item:
            raise TaskError(f"{at}: 'input' is missing")
        if side == "train" and "output" not in item:
            raise TaskError(f"{at}: 'output' is missing; every demonstration needs one")
        grids: dict[str, Grid | None] = {"output": None}
        for key in ("input", "output"):
            if key in item:
                try:
                    grids[key] = grid_from_rows(item[key])
                except GridError as error:
                    raise TaskError(f"{at}, {key}: {error}") from None
        first = grids["input"]
        assert first is not None
        pairs.append(Pair(first, grids["output"]))
    return tuple(pairs)


def task_from_json(value: object, task_id: str, source: str = "") -> Task:
    """Converts a JSON value to a task; keys other than `train` and `test` are ignored.

    Args:
        value: `{"train": [...], "test": [...]}`; test pairs may lack their output.
        task_id: id of the task.
        source: name of the file, for error messages.
    Raises:
        TaskError: the value is not a task.
    """
    where = f"{source}: task {task_id!a}" if source else f"task {task_id!a}"
    if any("\ud800" <= character <= "\udfff" for character in task_id):
        raise TaskError(f"{where}: its id must be text that UTF-8 can hold; it has half of a surrogate pair")
    if not isinstance(value, dict):
        raise TaskError(f"{where} must be an object with 'train' and 'test'; got {describe(value)}")
    for side in ("train", "test"):
        if side not in value:
            raise TaskError(f"{where}: '{side}' is missing")
    return Task(task_id, _parse_pairs(value["train"], "train", where), _parse_pairs(value["test"], "test", where))


def task_to_json(task: Task) -> dict[str, list[dict[str, list[list[int]]]]]:
    """Converts a task to a JSON value without its withheld outputs; the inverse of `task_from_json`."""

    def side(pairs: tuple[Pair, ...]) -> list[dict[str, list[list[int]]]]:
        return [
            {"input": pair.input.tolist()} | ({} if pair.output is None else {"output": pair.output.tolist()})
            for pair in pairs
        ]

    return {"train": side(task.train), "test": side(task.test)}


def _require_unique_keys(items: list[tuple[str, object]]) -> dict[str, object]:
    """Makes the dictionary of a JSON object; raises TaskError if a key occurs twice."""
    result = dict(items)
    if len(result) != len(items):
        seen: set[str] = set()
        for key, _ in items:
            if key in seen:
                raise TaskError(f"key {key!a} stands twice in one object")
            seen.add(key)
    return result


def parse_json(data: bytes, source: str) -> object:
    """Parses JSON, refusing duplicate keys.

    Raises:
        TaskError: the bytes are not UTF-8, not JSON, nested too deeply, or give a key twice.
    """
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_require_unique_keys)
    except UnicodeDecodeError as error:
        raise TaskError(f"{source} must be UTF-8; byte {error.start} is not") from None
    except json.JSONDecodeError as error:
        raise TaskError(f"{source} must be JSON; line {error.lineno}, column {error.colno}: {error.msg}") from None
    except TaskError as error:
        raise TaskError(f"{source}: {error}") from None
    except (RecursionError, ValueError) as error:  # deep nesting; an integer of thousands of digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise TaskError(f"{source} must be a task's JSON; {reason}") from None


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Reads a file of at most `limit` bytes.

    Raises:
        TaskError: the file cannot be read, is no plain file, or is larger.
    """
    try:
        if not path.is_file():
            reason = "is not a plain file" if path.exists() else "does not exist"
            raise TaskError(f"{path} {reason}")
        size = path.stat().st_size
        if size > limit:
            raise TaskError(f"{path} must be at most {limit:,} bytes; got {size:,}")
        return path.read_bytes()
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror or error}") from None


def read_task(path: Path, task_id: str | None = None) -> Task:
    """Reads the task in one ARC JSON file; its id is the file's stem unless given.

    Raises:
        TaskError: the file cannot be read or does not hold a task.
    """
    return task_from_json(parse_json(read_bytes(path), str(path)), task_id or path.stem, str(path))


def read_task_set(path: Path) -> list[Task]:
    """Reads the tasks of a Kaggle challenges file, `{task_id: task, ...}`, in the file's order.

    Raises:
        TaskError: the file cannot be read or a task in it is not valid.
    """
    value = parse_json(read_bytes(path), str(path))
    if not isinstance(value, Mapping) or not value:
        raise TaskError(f"{path} must be an object of tasks by id; got {describe(value)}")
    return [task_from_json(item, task_id, str(path)) for task_id, item in value.items()]
