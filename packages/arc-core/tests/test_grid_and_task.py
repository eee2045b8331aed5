import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_core.datasets import load_tasks
from arc_core.grid import (
    GridError,
    check_grid,
    grid_from_rows,
    grid_from_text,
    grid_hash,
    grid_to_text,
    most_common_color,
)
from arc_core.task import Task, TaskError, read_task, read_task_set, task_from_json, task_to_json

GOOD = {"train": [{"input": [[1, 2]], "output": [[3]]}], "test": [{"input": [[4]], "output": [[5]]}]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2], [3]], "row 1 must have 2 cells like row 0; got 1"),
        ([], "must have 1..30 rows; got 0"),
        ([[]], "row 0 must have 1..30 cells; got 0"),
        ([[0]] * 31, "must have 1..30 rows; got 31"),
        ([[0] * 31], "row 0 must have 1..30 cells; got 31"),
        ([[1, 10]], "row 0, column 1 must be a colour 0..9; got int 10"),
        ([[1], [-1]], "row 1, column 0 must be a colour 0..9; got int -1"),
        ([[1.0]], "row 0, column 0 must be an integer 0..9; got float 1.0"),
        ([[None]], "row 0, column 0 must be an integer 0..9; got null"),
        ([[True]], "row 0, column 0 must be an integer 0..9; got boolean True"),
        ([["1"]], "row 0, column 0 must be an integer 0..9; got string '1'"),
        ([1, 2], "row 0 must be a list of colours 0..9; got"),
        ("12", "must be a list of rows; got string '12'"),
        ({}, "must be a list of rows; got object"),
    ],
)
def test_a_bad_grid_is_named_by_row_and_column(rows: object, message: str) -> None:
    with pytest.raises(GridError) as error:
        grid_from_rows(rows)
    assert message in str(error.value)


def test_a_grid_is_read_only_and_its_text_reads_back() -> None:
    grid = grid_from_rows([[1, 2, 3], [4, 5, 6]])
    with pytest.raises(ValueError, match="read-only"):
        grid[0, 0] = 9
    assert grid_to_text(grid) == "123\n456"
    assert (grid_from_text("123\n456") == grid).all()
    with pytest.raises(GridError, match="row 1 must be digits"):
        grid_from_text("12\nx4")


def test_the_hash_tells_shapes_and_cells_apart() -> None:
    flat, tall = grid_from_rows([[0, 0, 0, 0]]), grid_from_rows([[0, 0], [0, 0]])
    assert grid_hash(flat) != grid_hash(tall)
    assert grid_hash(flat) == grid_hash(check_grid(np.zeros((1, 4), dtype=np.int64)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 3), dtype=int), "got shape (0, 3)"),
        (np.zeros(4, dtype=int), "got shape (4,)"),
        (np.zeros((31, 1), dtype=int), "got shape (31, 1)"),
        (np.full((1, 1), 10), "got 10..10"),
        (np.ones((1, 1)), "got float64"),
    ],
)
def test_arrays_that_are_no_grids_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(GridError) as error:
        check_grid(array)
    assert message in str(error.value)


def test_the_lowest_color_wins_a_tie_for_most_common() -> None:
    assert most_common_color(grid_from_rows([[3, 1], [1, 3]])) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("train"), "'train' is missing"),
        (lambda t: t.pop("test"), "'test' is missing"),
        (lambda t: t.update(test=[]), "'test' must be a list of at least one pair; got an empty list"),
        (lambda t: t.update(train={}), "'train' must be a list of at least one pair; got object"),
        (lambda t: t["train"].append(3), "train pair 1 must be an object with 'input' and 'output'"),
        (lambda t: t["train"][0].pop("output"), "train pair 0: 'output' is missing; every demonstration needs one"),
        (lambda t: t["test"][0].pop("input"), "test pair 0: 'input' is missing"),
        (lambda t: t["test"][0].update(output=[[1], [2, 3]]), "test pair 0, output: row 1 must have 1 cells"),
    ],
)
def test_a_bad_task_is_named_by_file_task_pair_and_side(tmp_path: Path, change: object, message: str) -> None:
    value = json.loads(json.dumps(GOOD))
    change(value)  # type: ignore[operator]
    path = tmp_path / "abc123.json"
    path.write_text(json.dumps(value))
    with pytest.raises(TaskError) as error:
        read_task(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "abc123" in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"train": 1, "train": 2}', "key 'train' stands twice"),
        (b"not json", "must be JSON; line 1, column 1"),
        (b'{"a": "\xff\xfe"}', "must be UTF-8; byte 7"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "too many digits"),
        (b"", "must be JSON"),
        (b"3", "must be an object"),
    ],
)
def test_a_file_that_is_no_task_gets_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(TaskError) as error:
        read_task(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_gigabyte_file_is_refused_by_its_size_alone(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(2**30)  # sparse: takes no space and no time
    with pytest.raises(TaskError, match="must be at most"):
        read_task(path)


def test_absent_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="does not exist"):
        read_task(tmp_path / "none.json")
    with pytest.raises(TaskError, match="is not a plain file"):
        read_task(tmp_path)
    with pytest.raises(TaskError, match="does not exist"):
        read_task_set(tmp_path / "none.json")


def test_json_round_trip_keeps_a_task() -> None:
    task = task_from_json(GOOD, "a")
    assert task_to_json(task) == GOOD
    assert task.without_answers().test[0].output is None
    assert not task.without_answers().has_answers
    assert task.content_hash != task.without_answers().content_hash


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 12) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["train", "test", "input", "output", "x"]), inner, max_size=4)
    ),
    max_leaves=30,
)
maybe_grids = st.lists(st.lists(st.integers(-1, 10) | st.none(), max_size=3), max_size=3) | json_values
maybe_pairs = st.fixed_dictionaries({}, optional={"input": maybe_grids, "output": maybe_grids}) | json_values
maybe_tasks = (
    st.fixed_dictionaries({side: st.lists(maybe_pairs, max_size=2) | json_values for side in ("train", "test")})
    | json_values
)


@given(maybe_tasks)
def test_any_json_value_is_a_valid_task_or_a_task_error(value: object) -> None:
    try:
        task = task_from_json(value, "fuzz")
    except TaskError:
        return
    _assert_valid(task)


def _assert_valid(task: Task) -> None:
    assert task.train
    assert task.test
    for pair in task.train + task.test:
        for grid in (pair.input, pair.output):
            if grid is not None:
                assert grid.dtype == np.uint8
                assert 1 <= min(grid.shape) <= max(grid.shape) <= 30
                assert grid.max() < 10
    assert all(pair.output is not None for pair in task.train)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_cut_and_flipped_task_files_are_valid_or_a_task_error(data: st.DataObject) -> None:
    task = data.draw(st.sampled_from(_REAL_TASKS))
    content = bytearray(json.dumps(task_to_json(task)).encode())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[rng.randrange(len(content))] = rng.randrange(256)
    path = _FUZZ_FOLDER / "fuzz.json"
    path.write_bytes(bytes(content))
    try:
        _assert_valid(read_task(path))
    except TaskError as error:
        assert "\n" not in str(error)


_REAL_TASKS = load_tasks("arc1:train")[:5]


@pytest.fixture(autouse=True, scope="module")
def _fuzz_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _FUZZ_FOLDER  # hypothesis may not use function-scoped fixtures
    _FUZZ_FOLDER = tmp_path_factory.mktemp("fuzz")


def test_an_id_that_no_file_could_hold_is_refused() -> None:
    value = {"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]]}]}
    with pytest.raises(TaskError, match="half of a surrogate pair"):
        task_from_json(value, "a\ud800")
    assert task_from_json(value, "\N{GRINNING FACE}").task_id == "\N{GRINNING FACE}"
