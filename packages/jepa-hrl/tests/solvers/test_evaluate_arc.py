"""The evaluation of program search: its journal, its report, its variants."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from arc_core.task import Pair, Task
from jepa_hrl.jepa.checkpoint import LoadedJepa
from jepa_hrl.search.engine import Limits, Search
from jepa_hrl.search.results import Result
from jepa_hrl.solvers import evaluate_arc
from jepa_hrl.solvers.evaluate_arc import (
    Variant,
    evaluate_variants,
    make_report,
    read_journal,
    read_metadata,
    summarize_latent_distances,
)

SETTINGS: dict[str, object] = {"data": "none"}
RESULT = Result("a", True, True, "input", 1, 10, 0, 9, 0.5, "solved")
LIMITS = Limits(seconds=None, programs=200)


def flip_task(task_id: str, seed: int) -> Task:
    """A task whose outputs are its inputs upside down."""
    grids = np.random.default_rng(seed).integers(0, 10, (4, 3, 3)).astype(np.uint8)
    pairs = [Pair(grid, grid[::-1].copy()) for grid in grids]
    return Task(task_id, tuple(pairs[:3]), tuple(pairs[3:]))


def write_journal(path: Path, *results: Result) -> None:
    lines = [SETTINGS, *({"variant": "dsl_only"} | asdict(result) for result in results)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_journal_gives_its_whole_lines_back(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    other = replace(RESULT, task_id="b", solved=False)
    write_journal(journal, RESULT, other)
    with journal.open("a") as file:
        file.write('{"variant": "dsl_only", "task')  # the evaluation was killed here
    assert read_journal(journal, SETTINGS) == {("dsl_only", "a"): RESULT, ("dsl_only", "b"): other}


def test_a_journal_of_other_settings_counts_as_none(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    assert read_journal(journal, SETTINGS) == {}
    write_journal(journal, RESULT)
    assert read_journal(journal, SETTINGS | {"prior": "another"}) == {}


def test_tasks_of_the_journal_are_not_searched_again(tmp_path: Path) -> None:
    tasks, journal = [flip_task(name, seed) for seed, name in enumerate("abc")], tmp_path / "journal"
    write_journal(journal, replace(RESULT, task_id="b", program="remembered"))
    console = Console(quiet=True)
    results = evaluate_variants(tasks, {"dsl_only": Variant()}, LIMITS, SETTINGS, journal, 1, console)
    assert [result.task_id for result in results["dsl_only"]] == ["a", "b", "c"]
    assert [result.program for result in results["dsl_only"]] == [
        "flip_vertical(input)", "remembered", "flip_vertical(input)",
    ]  # fmt: skip
    assert set(read_journal(journal, SETTINGS)) == {("dsl_only", name) for name in "abc"}


def test_a_variant_searches_each_task_at_its_own_costs() -> None:
    rng = np.random.default_rng(0)
    pairs = [Pair(*rng.integers(0, 10, (2, 4, 4)).astype(np.uint8)) for _ in range(4)]
    tasks = [Task(name, tuple(pairs[:3]), (Pair(pairs[3].input, None),)) for name in "ab"]  # without a rule
    costs = [{"flip_vertical": 0.5, "trim": 20.0}, {"flip_vertical": 20.0, "trim": 0.5}]
    counts = {}
    for index, cost in enumerate(costs):
        alone = Search(tasks[index], LIMITS, cost).run()
        counts[index] = (alone.tested, alone.refused, alone.novel)
        [(position, outcome)] = Variant(costs).search(tasks, [index], LIMITS, 1)
        assert position == 0  # in the indices, not among all tasks
        assert (outcome.tested, outcome.refused, outcome.novel) == counts[index]
    assert counts[0] != counts[1]


def test_the_report_tells_phases_and_programs_of_synthetic_tasks(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    lines = [
        {"task_id": "a", "metadata": {"phase": "easy", "program": "input"}},
        {"task_id": "b", "metadata": {"phase": "hard"}},
        {"task_id": "c"},
    ]
    manifest.write_text("\n".join(map(json.dumps, lines)) + "\n")
    phases, programs = read_metadata(manifest)
    assert (phases, programs) == ({"a": "easy", "b": "hard"}, {"a": "input"})
    assert read_metadata(None) == ({}, {})
    results = [RESULT, replace(RESULT, task_id="b", solved=False), replace(RESULT, task_id="c", program="other")]
    report = make_report({"dsl_only": results}, SETTINGS, phases, programs, "abc1234")
    assert report["total_tasks"] == 3 and report["settings"] == SETTINGS and report["commit"] == "abc1234"
    assert report["by_phase"] == {"dsl_only": {"easy": 1.0, "hard": 0.0}}
    assert report["tasks"] == {"dsl_only": [asdict(result) for result in results]}
    assert report["variants"]["dsl_only"]["solved_count"] == 2  # type: ignore[index]
    assert report["variants"]["dsl_only"]["novelty_rate"] == pytest.approx(1 / 3, abs=1e-4)  # type: ignore[index]


def test_latent_distances_are_told_apart_by_success(monkeypatch: pytest.MonkeyPatch) -> None:
    distances = np.array([0.1, 0.3, 0.8])
    monkeypatch.setattr(evaluate_arc, "latent_distances", lambda jepa, tasks: distances)
    jepa = LoadedJepa.__new__(LoadedJepa)
    solved = [RESULT, RESULT, replace(RESULT, solved=False)]
    summary = summarize_latent_distances(jepa, [], solved)
    assert summary["mean_solved"] == pytest.approx(0.2) and summary["mean_failed"] == pytest.approx(0.8)
    assert summary["correlation"] == pytest.approx(np.corrcoef(distances, [1, 1, 0])[0, 1])
    assert summarize_latent_distances(jepa, [], [RESULT] * 3) == {
        "mean_solved": pytest.approx(0.4), "mean_failed": None, "correlation": None,
    }  # fmt: skip
