import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from arc_core.datasets import fingerprint, load_tasks
from arc_core.errors import InputError
from arc_core.solver import Budget, Candidate, InstalledSolvers, OpenSolver, SolverEntry, TaskPrediction
from arc_core.task import Task, task_to_json
from arc_eval.cli import _run, main
from arc_eval.compare import parse_views
from arc_eval.evaluation_set import EvaluationSet, load_evaluation_set
from arc_eval.methods import MethodInfo
from arc_eval.protocol import find_excluded_tasks, make_protocol
from arc_eval.scoring.ranks import AnswerKey, rank_answers
from arc_eval.storage.prediction_store import PredictionStore
from arc_eval.storage.records import prediction_record

Make = Callable[..., Task]


def results(world: Any) -> dict[str, Any]:
    value = json.loads(next((world.root / "results").glob("*/results.json")).read_text())
    return {method["label"]: method for method in value["methods"]}


def test_compare_scores_every_method_and_names_what_is_missing(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--data", f"dir:{world.data}"]) == 0
    out = capsys.readouterr().out
    assert "train one with: uv run train-it" in out
    assert "broken: cannot be loaded: no module" in out
    assert "alone by: peeking 5" in out
    found = results(world)
    scores = found["peeking"]["scores"]
    assert (scores["answered"], scores["solved"], scores["score"], scores["score_95"]) == (6, 6, 1.0, [1.0, 1.0])
    assert scores["pass_at"] == {"1": 0.0} | {str(k): 1.0 for k in (2, 3, 5, 10, 20, 50, 100)}
    assert (scores["seconds_per_task"], scores["programs_per_task"]) == (0.5, 10)
    assert found["peeking"]["transductive_tasks"] == 6
    identity = found["identity"]["scores"]
    assert (identity["solved"], identity["pass_at"]["1"]) == (1, pytest.approx(1 / 6))
    assert found["untrained"]["scores"] is None
    folder = next((world.root / "results").iterdir())
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "predictions.jsonl", "results.json", "report.html", "submissions",
    }  # fmt: skip
    assert {path.name for path in (folder / "submissions").iterdir()} == {"identity.json", "peeking.json"}


def test_an_interrupted_comparison_goes_on_where_it_stopped(world: Any) -> None:
    world.solver.lives = 4
    command = ["compare", "--data", f"dir:{world.data}"]
    assert main(command) == 130
    stored = next((world.root / "results").glob("*/predictions.jsonl"))
    with stored.open("a") as file:
        file.write('{"method": "peeking", "checkp')  # a line cut off by a kill
    world.solver.lives = 1000
    assert main(command) == 0
    assert world.solver.asked == 6
    assert main(command) == 0
    assert world.solver.asked == 6
    assert main([*command, "--fresh"]) == 0
    assert world.solver.asked == 12


def test_an_interruption_before_the_first_answer_ends_quietly(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    world.solver.lives = 0
    assert main(["compare", "--data", f"dir:{world.data}", "--methods", "peeking"]) == 130
    assert "the same command goes on" in capsys.readouterr().out


def test_a_comparison_without_any_answer_says_why(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = InstalledSolvers(
        {"untrained": SolverEntry(lambda path, device: OpenSolver(world.solver), True, "uv run it")}
    )
    monkeypatch.setattr("arc_eval.methods.discover_solvers", lambda: found)
    assert main(["compare", "--data", f"dir:{world.data}"]) == 2
    assert "no method could answer: untrained: no run in" in capsys.readouterr().err


def test_a_closed_pipe_is_no_fault() -> None:
    def closed(*_: object) -> int:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        _run(argparse.Namespace(run=closed), Console())


def test_other_protocols_go_to_other_folders(world: Any) -> None:
    protocols = ([], ["--limit", "3"], ["--views", "8x1"], ["--seed", "1"], ["--programs-per-task", "9"])
    for arguments in protocols:
        assert main(["compare", "--data", f"dir:{world.data}", "--methods", "peeking", *arguments]) == 0
    assert len(list((world.root / "results").iterdir())) == len(protocols)
    assert world.solver.asked == 6 + 3 + 6 + 6 + 6


def test_a_failing_task_counts_as_wrong_and_costs_no_other(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    world.solver.faults = {"t1", "t4"}
    command = ["compare", "--data", f"dir:{world.data}"]
    assert main(command) == 1
    assert "failed on 2 tasks, which count as wrong: t1, t4" in capsys.readouterr().out
    found = results(world)["peeking"]
    assert found["errors"] == {name: f"RuntimeError: cannot bear {name}" for name in ("t1", "t4")}
    assert (found["scores"]["answered"], found["scores"]["solved"]) == (4, 4)
    assert found["scores"]["score"] == pytest.approx(4 / 6)
    world.solver.faults = set()
    assert main(command) == 0
    assert world.solver.asked == 6
    assert results(world)["peeking"]["scores"]["solved"] == 6


def test_a_solver_that_always_fails_is_given_up_and_the_others_go_on(
    world: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    world.solver.faults = {f"t{number}" for number in range(6)}
    assert main(["compare", "--data", f"dir:{world.data}"]) == 1
    found = results(world)
    assert found["peeking"]["scores"] is None
    assert "given up after it failed on 5 tasks in a row" in capsys.readouterr().out
    assert found["identity"]["scores"]["solved"] == 1


def test_a_solver_that_skips_a_task_is_told_so(world: Any) -> None:
    solve = world.solver.solve
    world.solver.solve = lambda tasks, budget: (p for p in solve(tasks, budget) if p.task_id != "t2")
    assert main(["compare", "--data", f"dir:{world.data}", "--methods", "peeking"]) == 1
    assert results(world)["peeking"]["errors"] == {"t2": "LookupError: gave no prediction for t2"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "0"], "--limit must be at least 1"),
        (["--views", "9"], "--views must be"),
        (["--programs-per-task", "0"], "--programs-per-task must be at least 1"),
        (["--data", "arc1:none"], "data spec must be one of"),
        (["--methods", "untrained"], "train one with: uv run train-it"),
        (["--methods", "untrained=none.pt"], "none.pt is no checkpoint, no run folder and no recipe run"),
        (["--methods", "submission:none.json"], "none.json does not exist"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(
    world: Any, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_views_are_read_as_turns_and_colorings() -> None:
    assert [parse_views(text) for text in ("8x4", "1", "8", "32", "4x2")] == [(8, 4), (1, 1), (8, 1), (8, 4), (4, 2)]
    for text in ("0", "12", "x", "8x0", "9x1", "-8", ""):
        with pytest.raises(InputError):
            parse_views(text)


def test_training_overlap_is_left_out_or_refused_or_marked(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training = world.root / "train"
    training.mkdir()
    (training / "other.json").write_text((world.data / "t1.json").read_text())  # the same content under another id
    entry = SolverEntry(lambda path, device: OpenSolver(world.solver, training_data=(f"dir:{training}",)), False)
    monkeypatch.setattr("arc_eval.methods.discover_solvers", lambda: InstalledSolvers({"peeking": entry}))
    command = ["compare", "--data", f"dir:{world.data}"]
    assert main(command) == 0
    assert "left out, because a method's training data holds them: t1" in capsys.readouterr().out
    assert results(world)["peeking"]["overlap_by_content"] == ["t1"]
    (training / "t2.json").write_text((world.data / "t2.json").read_text())
    assert main(command) == 2
    assert "2 of the 6 evaluation tasks are in the training data of peeking" in capsys.readouterr().err
    assert main([*command, "--allow-overlap"]) == 0
    assert "(2 tasks seen in training)" in capsys.readouterr().out
    report = next((world.root / "results").glob("*/report.html")).read_text()
    assert '<tr class="overlap">' in report
    assert "Overlap allowed." in report


def test_a_comparison_of_which_no_task_would_be_left_is_refused(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training = world.root / "train"
    training.mkdir()
    (training / "t0.json").write_text((world.data / "t0.json").read_text())
    entry = SolverEntry(lambda path, device: OpenSolver(world.solver, training_data=(f"dir:{training}",)), False)
    monkeypatch.setattr("arc_eval.methods.discover_solvers", lambda: InstalledSolvers({"peeking": entry}))
    assert main(["compare", "--data", f"dir:{world.data}", "--limit", "1"]) == 2
    assert "1 of the 1 evaluation tasks are in the training data of peeking" in capsys.readouterr().err
    assert main(["compare", "--data", f"dir:{world.data}", "--limit", "2"]) == 0


def test_training_data_that_is_not_here_is_said_to_be_unchecked(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = SolverEntry(lambda path, device: OpenSolver(world.solver, training_data=("manifest:gone.jsonl",)), False)
    monkeypatch.setattr("arc_eval.methods.discover_solvers", lambda: InstalledSolvers({"peeking": entry}))
    assert main(["compare", "--data", f"dir:{world.data}"]) == 0
    assert "(overlap unknown)" in capsys.readouterr().out
    assert results(world)["peeking"]["unchecked"] == ["manifest:gone.jsonl"]


def test_a_comparison_loads_its_evaluation_set_once(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    training = world.root / "train"
    training.mkdir()
    (training / "t0.json").write_text((world.data / "t0.json").read_text())
    entry = SolverEntry(lambda path, device: OpenSolver(world.solver, training_data=(f"dir:{training}",)), False)
    monkeypatch.setattr(
        "arc_eval.methods.discover_solvers", lambda: InstalledSolvers({"one": entry, "two": entry, "three": entry})
    )
    loads: list[str] = []
    for module in ("evaluation_set", "methods"):
        monkeypatch.setattr(f"arc_eval.{module}.load_tasks", lambda spec: loads.append(spec) or load_tasks(spec))
    fingerprints: list[int] = []
    monkeypatch.setattr(
        "arc_eval.evaluation_set.fingerprint", lambda tasks: fingerprints.append(len(tasks)) or fingerprint(tasks)
    )
    evaluation = f"dir:{world.data}"
    assert main(["compare", "--data", evaluation]) == 0
    assert (loads.count(evaluation), fingerprints) == (1, [6])
    assert loads.count(f"dir:{training}") == 3  # the training data of every method, to find overlap


def test_nothing_is_left_out_without_overlap(random_task: Make) -> None:
    assert find_excluded_tasks([MethodInfo("m", "m")], [random_task([((1, 1), (1, 1))] * 2)], allow_overlap=False) == []


def test_sets_without_answers_cannot_be_scored(tmp_path: Path, random_task: Make) -> None:
    (tmp_path / "a.json").write_text(json.dumps(task_to_json(random_task([((2, 2), (2, 2))] * 2).without_answers())))
    with pytest.raises(InputError, match="withholds those of 1 tasks"):
        load_evaluation_set(f"dir:{tmp_path}")
    assert len(load_evaluation_set(f"dir:{tmp_path}", require_answers=False).tasks) == 1


def test_a_stored_prediction_is_scored_like_the_original(tmp_path: Path, random_task: Make) -> None:
    task = random_task([((2, 2), (3, 3))] * 3, tests=2)
    answers = [pair.output for pair in task.test if pair.output is not None]
    wrong = Candidate(task.test[0].input, votes=3, confidence=0.25)
    prediction = TaskPrediction("made", ((wrong, Candidate(answers[0])), (wrong,)), seconds=2.0, views=32)
    with PredictionStore(tmp_path / "p.jsonl") as store:
        store.append([prediction_record("m", "k", prediction)])
    with PredictionStore(tmp_path / "p.jsonl") as store:
        ranks = rank_answers(store.records("m", "k"), AnswerKey([task]))
        assert store.records("m", "other") == {}
    assert ranks.ranks[0][0] == 2
    assert (ranks.is_solved(), ranks.scores().tolist(), ranks.answered) == ([False], [0.5], [True])
    assert rank_answers({}, AnswerKey([task])).answered == [False]


def test_damaged_lines_are_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    good = prediction_record("m", "k", TaskPrediction("t", ((),), seconds=1.0))
    file.write_text(
        json.dumps(good) + '\n[1]\n{"method": "m"}\n\x00\n' + json.dumps(good | {"candidates": [[7]]}) + "\n"
    )
    with PredictionStore(file) as store:
        assert list(store.records("m", "k")) == ["t"]
    assert file.read_text() == json.dumps(good) + "\n"


def test_the_protocol_key_depends_on_everything_that_is_held_equal(random_task: Make) -> None:
    task = random_task([((2, 2), (2, 2))] * 2)
    base = make_protocol(EvaluationSet("arc1:eval", None, [task]), Budget())
    others = [
        make_protocol(EvaluationSet("arc1:train", None, [task]), Budget()),
        make_protocol(EvaluationSet("arc1:eval", 3, [task]), Budget()),
        make_protocol(EvaluationSet("arc1:eval", None, [task.without_answers()]), Budget()),
        make_protocol(EvaluationSet("arc1:eval", None, [task]), Budget(color_views=1)),
        make_protocol(EvaluationSet("arc1:eval", None, [task]), Budget(seed=1)),
        make_protocol(EvaluationSet("arc1:eval", None, [task]), Budget(programs_per_task=5)),
    ]
    assert len({base.key, *(other.key for other in others)}) == 7
    assert base.folder_name.startswith("arc1-eval-")


def test_checkpoints_of_one_method_stand_side_by_side(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for name in ("quick-1", "trm-2"):
        file = world.root / "runs" / "peeking" / name / "checkpoints" / "step_00000001.pt"
        file.parent.mkdir(parents=True)
        file.write_text(name)
        (file.parent.parent / "summary.json").write_text(json.dumps({"training_seconds": 12.5}))
        files.append(file)

    def opened(path: Path | None, device: str) -> OpenSolver:
        assert path is not None
        file = path if path.is_file() else next((path / "checkpoints").iterdir())
        return OpenSolver(world.solver, file, 1, parameters=7)

    monkeypatch.setattr("arc_eval.methods.solver_entry", lambda name: SolverEntry(opened, True))
    command = ["compare", "--data", f"dir:{world.data}", "--methods", f"peeking={files[0]}", "peeking=trm"]
    assert main(command) == 0
    found = results(world)
    assert set(found) == {"peeking quick-1", "peeking trm-2", "vote"}
    assert (found["peeking trm-2"]["training_seconds"], found["vote"]["parameters"]) == (12.5, 14)
    assert world.solver.asked == 12


@pytest.mark.slow
def test_a_killed_comparison_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    """Killed twice at whatever it is doing; answers come from real searches in other processes."""
    command = [
        sys.executable, "-m", "arc_eval.cli", "compare", "--data", "arc1:train", "--limit", "10", "--views", "1",
        "--programs-per-task", "1500", "--methods", "identity", "dsl", "--out",
    ]  # fmt: skip
    done = subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stored = tmp_path / "killed" / "predictions.jsonl"
    for lines in (3, 14):
        process = subprocess.Popen(
            [*command, str(stored.parent)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while process.poll() is None and not (stored.exists() and stored.read_bytes().count(b"\n") >= lines):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert stored.read_bytes().count(b"\n") >= lines
    kept = stored.read_bytes()
    assert subprocess.run([*command, str(stored.parent)], capture_output=True, check=False).returncode == 0
    assert stored.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])  # nothing stored was solved again

    def answers(folder: str) -> dict[tuple[str, str], object]:
        found = map(json.loads, (tmp_path / folder / "predictions.jsonl").read_text().splitlines())
        return {(line["method"], line["task_id"]): (line["candidates"], line["programs"]) for line in found}

    assert answers("killed") == answers("whole")
    assert len(answers("whole")) == 20
