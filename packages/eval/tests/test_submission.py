import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arc_core.errors import InputError
from arc_core.solver import Candidate, TaskPrediction
from arc_core.task import Task
from arc_eval.cli import main
from arc_eval.storage.records import prediction_record
from arc_eval.storage.submission import (
    check_submission,
    make_submission,
    read_submission,
    submission_records,
    write_submission,
)

Make = Callable[..., Task]


def make_tasks(random_task: Make) -> list[Task]:
    return [random_task([((2, 2), (3, 3))] * 3, tests=2, seed=n, task_id=f"t{n}") for n in range(3)]


def test_a_submission_holds_two_attempts_and_blanks(random_task: Make, tmp_path: Path) -> None:
    tasks = make_tasks(random_task)
    grids = [pair.input for pair in tasks[0].train]
    prediction = TaskPrediction("t0", (tuple(Candidate(g) for g in (*grids, tasks[1].test[0].input)), ()), 1.0)
    answers = make_submission({"t0": prediction_record("m", "k", prediction)}, tasks)
    blank = [[0, 0], [0, 0]]
    assert answers["t0"] == [
        {"attempt_1": grids[0].tolist(), "attempt_2": tasks[1].test[0].input.tolist()},
        {"attempt_1": blank, "attempt_2": blank},
    ]
    assert answers["t1"] == [{"attempt_1": blank, "attempt_2": blank}] * 2
    write_submission(tmp_path / "s.json", answers, tasks)
    assert read_submission(tmp_path / "s.json", tasks) == answers
    again = {line["task_id"]: line for line in submission_records(answers, "k")}
    assert make_submission(again, tasks) == answers


def good() -> dict[str, Any]:
    return {f"t{n}": [{"attempt_1": [[1]], "attempt_2": [[2, 3]]} for _ in range(2)] for n in range(3)}


def broken(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    value = good()
    change(value)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "must be an object of answers by task id"),
        (broken(lambda v: v.pop("t1")), "1 tasks are missing, 't1' for one"),
        (broken(lambda v: v.update(x=[], y=[])), "2 ids are not among the tasks of the data, 'x' for one"),
        (broken(lambda v: v["t2"].pop()), "1 tasks have not one answer for each test input, 't2' for one"),
        (broken(lambda v: v.update(t0={})), "1 tasks have not one answer for each test input, 't0' for one"),
        (broken(lambda v: v["t0"][0].update(attempt_3=[[1]])), "1 tasks have other attempts than attempt_1 and att"),
        (broken(lambda v: v["t0"][1].pop("attempt_2")), "1 tasks have other attempts"),
        (broken(lambda v: v["t0"].__setitem__(0, 5)), "1 tasks have other attempts"),
        (broken(lambda v: v["t1"][0].update(attempt_1=[[1], [2, 3]])), "1 tasks have an attempt that is no grid"),
        (broken(lambda v: v["t1"][0].update(attempt_1=[[10]])), "1 tasks have an attempt that is no grid"),
        (broken(lambda v: v["t1"][0].update(attempt_1=[])), "1 tasks have an attempt that is no grid"),
        (broken(lambda v: v["t1"][0].update(attempt_1="1")), "1 tasks have an attempt that is no grid"),
    ],
)  # fmt: skip
def test_faults_are_counted(value: object, message: str, random_task: Make) -> None:
    with pytest.raises(InputError) as caught:
        check_submission(value, make_tasks(random_task), "s.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith("s.json")


def test_every_kind_of_fault_gets_its_own_line(random_task: Make) -> None:
    value = broken(lambda v: (v.pop("t1"), v.update(x=[]), v["t0"].pop()))
    with pytest.raises(InputError) as caught:
        check_submission(value, make_tasks(random_task), "s.json")
    assert len(str(caught.value).splitlines()) == 3


def test_a_submission_is_scored_beside_methods(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "--data", f"dir:{world.data}", "--methods"]
    assert main([*command, "peeking", "identity"]) == 0
    folder = next((world.root / "results").iterdir())
    theirs = folder / "submissions" / "peeking.json"
    assert main([*command, f"submission:{theirs}", "identity"]) == 0
    found = {m["label"]: m for m in json.loads((folder / "results.json").read_text())["methods"]}
    assert found["submission peeking"]["scores"]["solved"] == 6
    assert found["submission peeking"]["training_data"] is None
    capsys.readouterr()
    assert main(["score", str(theirs), "--data", f"dir:{world.data}"]) == 0
    assert "6/6" in capsys.readouterr().out


def test_stored_answers_are_scored_reported_and_submitted(
    world: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["compare", "--data", f"dir:{world.data}"]) == 0
    folder = next((world.root / "results").iterdir())
    before = json.loads((folder / "results.json").read_text())
    assert main(["score", str(folder)]) == 0
    assert json.loads((folder / "results.json").read_text()) == before
    assert world.solver.asked == 6
    first = (folder / "report.html").read_text()
    assert main(["report", str(folder), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text() == first
    out = tmp_path / "out.json"
    assert main(["submission", str(folder), "--method", "peeking", "--out", str(out)]) == 0
    assert out.read_bytes() == (folder / "submissions" / "peeking.json").read_bytes()
    capsys.readouterr()
    assert main(["submission", str(folder), "--method", "none"]) == 2
    assert "--method must be one of" in capsys.readouterr().err


def test_tasks_without_answers_are_answered_for_kaggle(world: Any, tmp_path: Path) -> None:
    challenges = tmp_path / "challenges.json"
    value = {path.stem: json.loads(path.read_text()) for path in sorted(world.data.glob("*.json"))}
    for task in value.values():
        for pair in task["test"]:
            del pair["output"]
    challenges.write_text(json.dumps(value))
    out = tmp_path / "submission.json"
    command = ["submission", "--data", f"kaggle:{challenges}", "--method", "peeking", "--out", str(out)]
    assert main(command) == 0
    answers = json.loads(out.read_text())
    truth = world.solver.truth
    assert [answers["t3"][test]["attempt_2"] for test in range(2)] == [grid.tolist() for grid in truth["t3"]]
    assert main(command) == 0
    assert world.solver.asked == 6  # the answers were kept
    world.solver.faults = {"t5"}
    out.unlink()
    assert main([*command, "--seed", "3"]) == 1
    assert json.loads(out.read_text())["t5"][0]["attempt_1"] == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "nowhere.json"], "nowhere.json does not exist"),
        (["report", "nowhere"], "results.json does not exist; a folder that eval compare wrote is needed"),
        (["submission", "nowhere", "--method", "dsl"], "results.json does not exist"),
    ],
)
def test_bad_input_gets_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_other_data_and_other_versions_are_refused(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--data", f"dir:{world.data}"]) == 0
    folder = next((world.root / "results").iterdir())
    (world.data / "t5.json").write_text((world.data / "t4.json").read_text())
    assert main(["report", str(folder)]) == 2
    assert "holds answers to other tasks" in capsys.readouterr().err
    (folder / "results.json").write_text('{"schema": 1}')
    assert main(["score", str(folder)]) == 2
    assert "must have schema 2; got 1" in capsys.readouterr().err
