import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from arc_core.datasets import (
    fingerprint,
    is_training_term,
    load_tasks,
    load_training_tasks,
    overlap,
    source_digest,
    split_spec,
)
from arc_core.task import Task, TaskError, task_to_json

Make = Callable[..., Task]


@pytest.mark.parametrize(
    ("spec", "count"), [("arc1:train", 400), ("arc1:eval", 400), ("arc2:train", 1000), ("arc2:eval", 120)]
)
def test_bundled_sets_have_their_published_sizes(spec: str, count: int) -> None:
    tasks = load_tasks(spec)
    assert len(tasks) == count
    assert len({task.task_id for task in tasks}) == count
    assert all(task.has_answers for task in tasks)


def test_376_evaluation_tasks_of_arc1_are_in_the_training_set_of_arc2() -> None:
    found = overlap(load_tasks("arc1:eval"), load_tasks("arc2:train"))
    assert len(found.by_id) == 376
    assert len(found.by_content) == 376


def test_one_evaluation_task_of_arc1_repeats_a_training_task_under_another_id() -> None:
    found = overlap(load_tasks("arc1:eval"), load_tasks("arc1:train"))
    assert found.by_id == ()
    assert found.by_content == ("070dd51e",)


def test_overlap_by_content_sees_through_withheld_answers(random_task: Make) -> None:
    task = random_task([((2, 3), (2, 3)), ((3, 3), (3, 3))])
    other = random_task([((5, 5), (5, 5)), ((4, 4), (4, 4))], seed=1, task_id="other")
    moved = Task("moved", other.train, task.test)
    assert overlap([moved.without_answers()], [task]).by_content == ("moved",)
    assert overlap([other], [task]).any == ()


def _write(folder: Path, tasks: list[Task]) -> None:
    for task in tasks:
        (folder / f"{task.task_id}.json").write_text(json.dumps(task_to_json(task)))


def test_a_folder_is_read_with_everything_below_it(tmp_path: Path, random_task: Make) -> None:
    sizes = [((2, 2), (2, 2)), ((3, 3), (3, 3))]
    for number, concept in enumerate(("Above", "Below")):  # ConceptARC's layout, here with one stem twice
        (tmp_path / concept).mkdir()
        _write(tmp_path / concept, [random_task(sizes, seed=number, task_id="one")])
    _write(tmp_path, [random_task(sizes, seed=9, task_id="top")])
    assert [task.task_id for task in load_tasks(f"dir:{tmp_path}")] == ["Above/one", "Below/one", "top"]


def test_kaggle_files_are_read_with_and_without_solutions(tmp_path: Path, random_task: Make) -> None:
    task = random_task([((2, 2), (2, 2)), ((3, 3), (3, 3)), ((4, 4), (1, 1))], tests=2, task_id="t1")
    challenges, solutions = tmp_path / "c.json", tmp_path / "s.json"
    challenges.write_text(json.dumps({"t1": task_to_json(task.without_answers())}))
    solutions.write_text(json.dumps({"t1": [pair.output.tolist() for pair in task.test if pair.output is not None]}))
    assert not load_tasks(f"kaggle:{challenges}")[0].has_answers
    assert load_tasks(f"kaggle:{challenges},{solutions}")[0].content_hash == task.content_hash
    solutions.write_text(json.dumps({"t1": [[[1]]]}))
    with pytest.raises(TaskError, match="must have 2 solutions, one a test input; got 1"):
        load_tasks(f"kaggle:{challenges},{solutions}")
    solutions.write_text(json.dumps({"t1": [[[1]], [[10]]]}))
    with pytest.raises(TaskError, match="'t1', solution 1: row 0, column 0 must be a colour"):
        load_tasks(f"kaggle:{challenges},{solutions}")


def test_a_manifest_names_its_lines_in_errors(tmp_path: Path, random_task: Make) -> None:
    task = random_task([((2, 2), (2, 2)), ((3, 3), (3, 3))], task_id="m1")
    line = json.dumps({"task_id": "m1", **task_to_json(task)})
    path = tmp_path / "m.jsonl"
    path.write_text(line + "\n\n")
    assert load_tasks(f"manifest:{path}")[0].content_hash == task.content_hash
    path.write_text(f"{line}\n{line}\n")
    with pytest.raises(TaskError, match="line 2: task id 'm1' stands twice"):
        load_tasks(f"manifest:{path}")
    path.write_text('{"task_id": 3}\n')
    with pytest.raises(TaskError, match="line 1 must be an object with a string 'task_id'"):
        load_tasks(f"manifest:{path}")


def test_a_sum_keeps_equal_tasks_once_and_renames_different_ones(tmp_path: Path, random_task: Make) -> None:
    first, second = tmp_path / "a+b", tmp_path / "c"
    for folder, seed in ((first, 0), (second, 1)):
        folder.mkdir()
        _write(folder, [random_task([((2, 2), (2, 2))] * 2, seed=5, task_id="same")])
        _write(folder, [random_task([((2, 2), (2, 2))] * 2, seed=seed, task_id="differs")])
    assert split_spec(f"dir:{first}+dir:{second}") == [f"dir:{first}", f"dir:{second}"]
    assert [task.task_id for task in load_tasks(f"dir:{first}+dir:{second}")] == ["differs", "same", "differs#2"]


@pytest.mark.parametrize("spec", ["arc3:train", "arc1", "arc1:test", "dir:", "dir:/no/such", "kaggle:none.json", ""])
def test_specs_that_mean_nothing_are_refused(spec: str) -> None:
    with pytest.raises(TaskError):
        load_tasks(spec)


def test_trainers_are_refused_the_answers_of_evaluation_tasks(tmp_path: Path, random_task: Make) -> None:
    with pytest.raises(TaskError, match="must not hold answers of evaluation tests; got arc1:eval"):
        load_training_tasks("arc1:train+arc1:eval")
    assert len(load_training_tasks("arc1:train")) == 400
    secret = tmp_path / "evaluation"
    secret.mkdir()
    _write(secret, [random_task([((2, 2), (2, 2))] * 2)])
    with pytest.raises(TaskError, match="end the term in @train"):
        load_training_tasks(f"dir:{secret}")
    assert len(load_training_tasks(f"dir:{secret}@train")) == 1
    assert is_training_term(f"dir:{tmp_path}/training")


def test_the_fingerprint_depends_on_content_and_not_on_order() -> None:
    tasks = load_tasks("arc1:train")
    assert fingerprint(tasks) == fingerprint(tasks[::-1])
    assert fingerprint(tasks) != fingerprint(tasks[1:])
    assert fingerprint(tasks) != fingerprint([tasks[0].without_answers(), *tasks[1:]])


def test_the_digest_of_a_source_changes_with_whatever_changes_its_tasks(tmp_path: Path, random_task: Make) -> None:
    tasks = [random_task([((2, 2), (2, 2)), ((3, 3), (3, 3))], seed=seed, task_id=f"t{seed}") for seed in range(3)]
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        _write(folder, tasks[:2])
    same = source_digest(f"dir:{one}")
    assert same is not None and same == source_digest(f"dir:{two}")
    (two / "t1.json").rename(two / "t9.json")  # another id
    assert source_digest(f"dir:{two}") != same
    _write(one, tasks[2:])
    assert source_digest(f"dir:{one}") not in (None, same)
    challenges, solutions = tmp_path / "c.json", tmp_path / "s.json"
    challenges.write_text("{}")
    solutions.write_text("{}")
    specs = (
        "arc1:train", "arc1:eval", "arc2:train", "arc1:train+arc2:train", "arc2:train+arc1:train", f"dir:{one}",
        f"dir:{one}@train", f"kaggle:{challenges}", f"kaggle:{challenges},{solutions}", f"manifest:{challenges}",
    )  # fmt: skip
    assert len({source_digest(spec) for spec in specs} - {None}) == len(specs)
    assert source_digest(f"manifest:{tmp_path}/none") is None


def test_the_numpy_part_does_not_import_torch() -> None:
    names = "arc_core, arc_core.grid, arc_core.task, arc_core.datasets, arc_core.augment, arc_core.scoring"
    code = f"import sys, {names}; assert 'torch' not in sys.modules and 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
