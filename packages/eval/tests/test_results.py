"""A comparison of given answers, every figure of which is computed by hand."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import validate

import arc_eval.storage.results
from arc_core.grid import Grid, grid_to_text
from arc_core.solver import Candidate, TaskPrediction
from arc_core.task import Pair, Task
from arc_eval.cli import main
from arc_eval.methods import MethodInfo
from arc_eval.scoring.breakdown import compute_calibration, group_tasks, size_bucket
from arc_eval.scoring.ensemble import vote_over_methods
from arc_eval.scoring.ranks import AnswerKey, rank_answers
from arc_eval.storage.records import PredictionRecord, prediction_record
from arc_eval.storage.results import compare_methods

Make = Callable[..., Task]
HEADER: dict[str, Any] = {"left_out_for_overlap": [], "overlap_allowed": False}


def grid(value: int, height: int = 2, width: int = 2) -> Grid:
    return np.full((height, width), value, dtype=np.uint8)


def tasks() -> list[Task]:
    """Returns four tasks; task n has one demonstration and the answer of colour n, task 3 has two tests."""
    task_list = []
    for number in range(4):
        test = Pair(grid(9, 3, 7 if number else 2), grid(number))
        task_list.append(Task(f"t{number}", (Pair(grid(8), grid(7)),), (test,) * (2 if number == 3 else 1)))
    return task_list


def records(name: str, answers: Mapping[str, list[list[int]]], sure: float = 0.5) -> dict[str, PredictionRecord]:
    """Returns records by task id, from the colours of the candidates by test input."""
    return {
        task_id: prediction_record(
            name, "none",
            TaskPrediction(
                task_id,
                tuple(tuple(Candidate(grid(c), 1, sure / (k + 1)) for k, c in enumerate(one)) for one in tests),
                seconds=2.0, programs=4,
            ),
        )
        for task_id, tests in answers.items()
    }  # fmt: skip


RECORDS = {
    "good": records("good", {"t0": [[0]], "t1": [[5, 1]], "t2": [[5, 6, 2]], "t3": [[3], [4]]}),
    "other": records("other", {"t0": [[0]], "t2": [[2]]}),
    "rule": records("rule", {f"t{n}": [[0]] * (2 if n == 3 else 1) for n in range(4)}),
}
METHODS = [MethodInfo("good", "good"), MethodInfo("other", "other"), MethodInfo("rule", "rule", baseline=True)]


def compare_all() -> dict[str, Any]:
    return compare_methods(HEADER, METHODS, RECORDS, tasks()).results


def by_label(results: dict[str, Any]) -> dict[str, Any]:
    return {method["label"]: method for method in results["methods"]}


def test_scores_by_hand() -> None:
    found = by_label(compare_all())
    good = found["good"]["scores"]
    assert (good["solved"], good["score"], good["answered"]) == (2, (1 + 1 + 0 + 0.5) / 4, 4)
    assert [good["pass_at"][k] for k in ("1", "2", "3")] == [0.25, 0.5, 0.75]
    other = found["other"]["scores"]
    assert (other["solved"], other["score"], other["answered"]) == (2, 0.5, 2)
    assert (other["seconds_per_task"], other["programs_per_task"]) == (2.0, 4.0)


def test_pairs_by_hand() -> None:
    results = compare_all()
    pair = results["pairs"][0]
    assert (pair["first"], pair["second"]) == ("good", "other")
    assert pair["difference"] == pytest.approx(0.125)
    assert (pair["only_first"], pair["only_second"], pair["p"]) == (1, 1, 1.0)
    assert len(results["pairs"]) == 3  # the vote is not tested against what it is made of
    low, high = pair["difference_95"]
    assert low < 0.125 < high


def test_solved_sets_by_hand() -> None:
    sets = compare_all()["solved_sets"]
    assert (sets["by_any"], sets["by_all"]) == (3, 1)
    assert sets["only"] == {"good": ["t1"], "other": ["t2"], "rule": []}
    assert sets["both"]["good"] == {"good": 2, "other": 1, "rule": 1}


def test_the_vote_is_counted_without_baselines() -> None:
    found = by_label(compare_all())
    assert (found["vote"]["scores"]["solved"], found["vote"]["scores"]["answered"]) == (3, 4)
    vote = vote_over_methods([RECORDS["good"], RECORDS["other"]], tasks())
    # t1: 5 gets a point, 1 half a point; t2: 5 and 2 get a point each and 5 stands first, with the same confidence.
    assert vote["t1"]["candidates"][0]["grids"] == [grid_to_text(grid(c)) for c in (5, 1)]
    assert vote["t2"]["candidates"][0]["grids"] == [grid_to_text(grid(c)) for c in (5, 2, 6)]
    assert vote["t0"]["candidates"][0]["confidences"] == [1.0]
    assert vote["t0"]["seconds"] == 4.0
    only = compare_methods(HEADER, [METHODS[0], METHODS[2]], RECORDS, tasks()).results
    assert set(by_label(only)) == {"good", "rule"}


def test_the_vote_does_not_depend_on_the_order_of_the_methods() -> None:
    turned = compare_methods(HEADER, METHODS[::-1], RECORDS, tasks()).results
    assert by_label(turned)["vote"]["scores"] == by_label(compare_all())["vote"]["scores"]
    assert compare_methods(HEADER, METHODS[::-1], RECORDS, tasks()).scored[0].records == (
        compare_methods(HEADER, METHODS, RECORDS, tasks()).scored[0].records
    )


def test_the_vote_answers_for_all_that_its_voters_were_trained_on() -> None:
    rows = [
        MethodInfo("good", "good", training_data=["arc1:train"], overlap_by_id=["t0"], parameters=3),
        MethodInfo("other", "other", training_data=None, overlap_by_content=["t1"], parameters=4),
    ]
    vote = by_label(compare_methods(HEADER, rows, RECORDS, tasks()).results)["vote"]
    assert (vote["training_data"], vote["parameters"]) == (None, 7)
    assert (vote["overlap_by_id"], vote["overlap_by_content"]) == (["t0"], ["t1"])


def test_groups_by_hand() -> None:
    task_list = tasks()
    assert [size_bucket(task) for task in task_list] == ["01-05", "06-10", "06-10", "06-10"]
    divided = group_tasks(task_list)
    assert divided["longest side"] == {"01-05": [0], "06-10": [1, 2, 3]}
    assert divided["test inputs"] == {"1": [0, 1, 2], "2": [3]}
    assert set(divided) == {"longest side", "test inputs"}  # all are alike in what else there is
    found = by_label(compare_all())["good"]["groups"]["longest side"]
    assert found == {"01-05": {"tasks": 1, "score": 1.0}, "06-10": {"tasks": 3, "score": 0.5}}


def test_scores_are_given_by_the_folders_of_conceptarc(world: Any) -> None:
    for number, concept in enumerate(("Above", "Above", "Center", "Center", "Center", "Same")):
        (world.data / concept).mkdir(exist_ok=True)
        (world.data / f"t{number}.json").rename(world.data / concept / f"t{number}.json")
    assert main(["compare", "--data", f"dir:{world.data}"]) == 0
    folder = next((world.root / "results").iterdir())
    found = by_label(json.loads((folder / "results.json").read_text()))["identity"]["groups"]["concept"]
    assert found == {
        "Above": {"tasks": 2, "score": 0.5}, "Center": {"tasks": 3, "score": 0.0}, "Same": {"tasks": 1, "score": 0.0},
    }  # fmt: skip
    assert '<select id="concept">' in (folder / "report.html").read_text()


def test_calibration_by_hand() -> None:
    sure = records("m", {"t0": [[0]], "t1": [[5]], "t3": [[3], []]}, sure=0.75)
    less = records("m", {"t2": [[2]]}, sure=0.15)
    both = {**sure, **less}
    found = compute_calibration(both, rank_answers(both, AnswerKey(tasks())), tasks())
    assert found is not None
    assert found["bins"] == [
        {"answers": 1, "confidence": 0.15, "right": 1.0},
        {"answers": 3, "confidence": 0.75, "right": pytest.approx(2 / 3)},
    ]
    assert found["expected_error"] == pytest.approx((1 * 0.85 + 3 * (0.75 - 2 / 3)) / 4)
    assert compute_calibration({}, rank_answers({}, AnswerKey(tasks())), tasks()) is None


def test_answers_to_test_inputs_that_are_not_there_are_not_counted() -> None:
    many = records("m", {"t0": [[0], [0], [0]]})
    assert rank_answers(many, AnswerKey(tasks())).ranks[0] == [1]


def test_results_keep_to_their_schema(world: Any) -> None:
    world.solver.faults = {"t1"}
    assert main(["compare", "--data", f"dir:{world.data}"]) == 1
    value = json.loads(next((world.root / "results").glob("*/results.json")).read_text())
    schema = json.loads((Path(arc_eval.storage.results.__file__).parent / "results.schema.json").read_text())
    validate(value, schema)
    del value["methods"][0]["label"]
    with pytest.raises(Exception, match="'label' is a required property"):
        validate(value, schema)
