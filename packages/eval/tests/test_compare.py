import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from arc_core.baselines import Baseline, identity_answers
from arc_core.errors import InputError
from arc_core.grid import Grid
from arc_core.solver import Budget, Candidate, Discovered, OpenSolver, SolverEntry, TaskPrediction
from arc_core.task import Pair, Task, task_to_json
from arc_eval.cli import main, parse_views
from arc_eval.protocol import left_out, load_evaluation, make_protocol
from arc_eval.scores import prediction_to_json, score_lines
from arc_eval.store import PredictionStore

Make = Callable[..., Task]


class Peeking:
    """Fails if a task that it is given carries an answer; counts what it is asked; dies after `lives` tasks."""

    name = "peeking"

    def __init__(self, truth: dict[str, list[Grid]], lives: int = 1000) -> None:
        self.truth, self.lives, self.asked = truth, lives, 0

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        for task in tasks:
            assert not any(pair.output is not None for pair in task.test)
            if self.asked == self.lives:
                raise KeyboardInterrupt
            self.asked += 1
            answers = tuple((Candidate(task.train[0].input), Candidate(g)) for g in self.truth[task.task_id])
            yield TaskPrediction(task.task_id, answers, seconds=0.5, views=budget.views, transductive=True)


@pytest.fixture
def world(tmp_path: Path, random_task: Make, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Peeking]:
    """Six tasks in a folder, a solver that knows them and the identity, with runs and results below tmp_path."""
    data = tmp_path / "data"
    data.mkdir()
    truth = {}
    for number in range(6):
        task = random_task([((2, 2), (3, 3))] * 3, tests=2, seed=number, task_id=f"t{number}")
        if number == 0:  # one that the identity solves
            task = Task("t0", task.train, tuple(Pair(pair.input, pair.input) for pair in task.test))
        (data / f"t{number}.json").write_text(json.dumps(task_to_json(task)))
        truth[task.task_id] = [pair.output for pair in task.test if pair.output is not None]
    solver = Peeking(truth)
    entries = {
        "identity": SolverEntry(lambda path, device: OpenSolver(Baseline("identity", identity_answers)), False),
        "peeking": SolverEntry(lambda path, device: OpenSolver(solver), False),
        "untrained": SolverEntry(lambda path, device: OpenSolver(solver), True, "uv run train-it"),
    }
    monkeypatch.setattr("arc_eval.compare.discover_solvers", lambda: Discovered(entries, {"broken": "no module"}))
    monkeypatch.setattr("arc_eval.compare.solver_entry", lambda name: entries[name])
    monkeypatch.setattr("arc_eval.cli.workspace_folder", lambda: tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return data, solver


def results(folder: Path) -> dict[str, dict[str, object]]:
    stored = json.loads(next((folder / "results").glob("*/results.json")).read_text())
    return {method["label"]: method for method in stored["methods"]}


def test_compare_scores_every_method_and_names_what_is_missing(
    world: tuple[Path, Peeking], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--data", f"dir:{world[0]}"]) == 0
    out = capsys.readouterr().out
    assert "train one with: uv run train-it" in out
    assert "broken: cannot be loaded: no module" in out
    found = results(tmp_path)
    scores = found["peeking"]["scores"]
    assert scores == {
        "tasks": 6, "solved": 6, "score": 1.0, "pass_at_1": 0.0, "pass_at_2": 1.0, "pass_at_5": 1.0,
        "pass_at_10": 1.0, "pass_at_100": 1.0,
        "seconds_per_task": 0.5,
    }  # fmt: skip
    assert found["peeking"]["transductive_tasks"] == 6
    identity = found["identity"]["scores"]
    assert isinstance(identity, dict)
    assert (identity["solved"], identity["pass_at_1"]) == (1, pytest.approx(1 / 6))
    assert found["untrained"]["scores"] is None


def test_an_interrupted_comparison_goes_on_where_it_stopped(world: tuple[Path, Peeking], tmp_path: Path) -> None:
    data, solver = world
    solver.lives = 4
    assert main(["compare", "--data", f"dir:{data}"]) == 130
    stored = next((tmp_path / "results").glob("*/predictions.jsonl"))
    with stored.open("a") as file:
        file.write('{"method": "peeking", "checkp')  # a line cut off by a kill
    solver.lives = 1000
    assert main(["compare", "--data", f"dir:{data}"]) == 0
    assert solver.asked == 6
    assert main(["compare", "--data", f"dir:{data}"]) == 0
    assert solver.asked == 6
    assert main(["compare", "--data", f"dir:{data}", "--fresh"]) == 0
    assert solver.asked == 12


def test_other_protocols_go_to_other_folders(world: tuple[Path, Peeking], tmp_path: Path) -> None:
    data, solver = world
    for arguments in ([], ["--limit", "3"], ["--views", "8x1"], ["--seed", "1"]):
        assert main(["compare", "--data", f"dir:{data}", "--methods", "peeking", *arguments]) == 0
    assert len(list((tmp_path / "results").iterdir())) == 4
    assert solver.asked == 6 + 3 + 6 + 6


def test_a_failing_solver_does_not_end_the_others(
    world: tuple[Path, Peeking], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, solver = world
    del solver.truth["t3"]
    assert main(["compare", "--data", f"dir:{data}"]) == 1
    assert "failed after 3 tasks: KeyError" in capsys.readouterr().out
    found = results(tmp_path)
    assert found["identity"]["scores"] is not None
    assert found["peeking"]["scores"]["tasks"] == 3  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "0"], "--limit must be at least 1"),
        (["--views", "9"], "--views must be"),
        (["--data", "arc1:none"], "data spec must be one of"),
        (["--methods", "untrained"], "train one with: uv run train-it"),
        (["--methods", "untrained=none.pt"], "none.pt does not exist"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(
    world: tuple[Path, Peeking], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
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
    world: tuple[Path, Peeking], tmp_path: Path, random_task: Make, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data, solver = world
    training = tmp_path / "train"
    training.mkdir()
    (training / "other.json").write_text((data / "t1.json").read_text())  # the same content under another id
    entry = SolverEntry(lambda path, device: OpenSolver(solver, training_data=(f"dir:{training}",)), False)
    monkeypatch.setattr("arc_eval.compare.discover_solvers", lambda: Discovered({"peeking": entry}))
    assert main(["compare", "--data", f"dir:{data}"]) == 0
    assert "left out, because a method's training data holds them: t1" in capsys.readouterr().out
    assert results(tmp_path)["peeking"]["overlap_by_content"] == ["t1"]
    (training / "t2.json").write_text((data / "t2.json").read_text())
    assert main(["compare", "--data", f"dir:{data}"]) == 2
    assert "2 of the 6 evaluation tasks are in the training data of peeking" in capsys.readouterr().err
    assert main(["compare", "--data", f"dir:{data}", "--allow-overlap"]) == 0
    assert "(2 tasks seen in training)" in capsys.readouterr().out


def test_nothing_is_left_out_without_overlap(random_task: Make) -> None:
    assert left_out([], [random_task([((1, 1), (1, 1))] * 2)], allow=False) == []


def test_sets_without_answers_cannot_be_scored(tmp_path: Path, random_task: Make) -> None:
    (tmp_path / "a.json").write_text(json.dumps(task_to_json(random_task([((2, 2), (2, 2))] * 2).without_answers())))
    with pytest.raises(InputError, match="withholds those of 1 tasks"):
        load_evaluation(f"dir:{tmp_path}", None)


def test_a_stored_prediction_scores_like_the_one_that_was_made(tmp_path: Path, random_task: Make) -> None:
    task = random_task([((2, 2), (3, 3))] * 3, tests=2)
    answers = [pair.output for pair in task.test if pair.output is not None]
    wrong = Candidate(task.test[0].input, votes=3, confidence=0.25)
    prediction = TaskPrediction("made", ((wrong, Candidate(answers[0])), (wrong,)), seconds=2.0, views=32)
    with PredictionStore(tmp_path / "p.jsonl", fresh=False) as store:
        store.append(prediction_to_json("m", "k", prediction))
    with PredictionStore(tmp_path / "p.jsonl", fresh=False) as store:
        scores = score_lines(store.of("m", "k"), [task])
        assert store.of("m", "other") == {}
    assert scores is not None
    assert (scores.solved, scores.score, scores.passed[1], scores.seconds_per_task) == (0, 0.5, 0.0, 2.0)
    assert score_lines({}, [task]) is None


def test_the_protocol_key_depends_on_everything_that_is_held_equal(random_task: Make) -> None:
    task = random_task([((2, 2), (2, 2))] * 2)
    base = make_protocol("arc1:eval", None, [task], Budget())
    others = [
        make_protocol("arc1:train", None, [task], Budget()),
        make_protocol("arc1:eval", 3, [task], Budget()),
        make_protocol("arc1:eval", None, [task.without_answers()], Budget()),
        make_protocol("arc1:eval", None, [task], Budget(color_views=1)),
        make_protocol("arc1:eval", None, [task], Budget(seed=1)),
    ]
    assert len({base.key, *(other.key for other in others)}) == 6
    assert base.folder_name.startswith("arc1-eval-")
