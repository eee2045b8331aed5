"""What is done with a trained JEPA: correlation with the search, guidance of the search, the ablation."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from scipy import stats

from arc_core.datasets import load_tasks
from arc_core.errors import InputError
from arc_core.solver import Budget
from arc_core.task import Task
from arc_core.voting import voting_views
from jepa_hrl.jepa.ablation import variants_of
from jepa_hrl.jepa.checkpoint import load_jepa
from jepa_hrl.jepa.cli import run_jepa_ablation as ablate
from jepa_hrl.jepa.cli import train_jepa as train
from jepa_hrl.jepa.cli import validate_jepa_correlation
from jepa_hrl.jepa.config import DataConfig, JepaConfig
from jepa_hrl.jepa.correlation import correlate
from jepa_hrl.jepa.data import search_labels
from jepa_hrl.jepa.data.tasks import training_tasks
from jepa_hrl.jepa.distances import latent_distances, pixel_distances
from jepa_hrl.jepa.losses.similarity import cosine_distance
from jepa_hrl.search.engine import Limits, Search
from jepa_hrl.search.results import score_outcome
from jepa_hrl.solvers.cli import main as evaluate
from jepa_hrl.solvers.latent_guide import LatentGuide
from jepa_hrl.solvers.program_search import latent
from jepa_hrl.synthesis.cli import main as generate

RECIPE: dict[str, object] = {
    "method": "jepa",
    "object_encoder": {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "latent_dim": 8, "num_embeddings": 16},
    "loss": {"queue_size": 32},
    "sigreg": {"weight": 0.1, "num_slices": 16},
    "optimizer": {"lr": 1e-3},
    "training": {"epochs": 2, "batch_size": 8, "grad_accum_steps": 1},
    "device": {"name": "cpu"},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def synthetic(folder: Path, seed: int, count: int) -> Path:
    recipe = {
        "name": folder.name, "seed": seed,
        "task_schedule": {"one": {"count": count}, "two": {"count": count}},
        "program": {"length_schedule": {"one": {1: 1.0}, "two": {2: 1.0}}},
        "grid": {"min_size": 3, "max_size": 5},
        "generator": {"allowed_primitives": ["flip_horizontal", "fall_down", "transpose", "keep_color", "rays_right"]},
    }  # fmt: skip
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe))
    assert generate(["--config", str(path), "--output-dir", str(folder), "--workers", "1"]) == 0
    return folder / "manifest.jsonl"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A recipe with its tasks, other tasks, and a trained run."""
    root = tmp_path_factory.mktemp("jepa")
    recipe = root / "tiny.yaml"
    learnt, others = synthetic(root / "learnt", 3, 12), synthetic(root / "others", 4, 12)
    recipe.write_text(yaml.safe_dump(RECIPE | {"data": {"tasks": f"manifest:{learnt}", "held_out": 0.3}}))
    assert train(["--config", str(recipe), "--run-dir", str(root / "run")]) == 0
    return recipe, others, root / "run"


def test_the_correlation_is_pearsons_and_its_threshold_holds_95_percent_of_the_solved() -> None:
    rng = np.random.default_rng(0)
    solved = rng.random(200) < 0.5
    distances = rng.random(200) + ~solved
    found = correlate(distances, solved)
    mine, theirs = distances - distances.mean(), solved - solved.mean()
    assert found.pearson == pytest.approx((mine @ theirs) / np.sqrt((mine @ mine) * (theirs @ theirs)))
    assert found.p_value == pytest.approx(stats.pearsonr(distances, solved.astype(float)).pvalue)
    assert found.pearson < -0.8
    share = (distances[solved] <= found.threshold_95_recall).mean()
    assert share == pytest.approx(0.95, abs=0.011)
    with pytest.raises(InputError, match="both outcomes must occur"):
        correlate(distances, np.ones(200, dtype=bool))


def test_distances_are_those_of_one_task_alone(made: tuple[Path, Path, Path]) -> None:
    _, others, run = made
    tasks = load_tasks(f"manifest:{others}")[:5]
    jepa = load_jepa(run, torch.device("cpu"))
    together = latent_distances(jepa, tasks)
    alone = [latent_distances(jepa, [task])[0] for task in tasks]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    views = voting_views(1, 8, 0)
    each = [latent_distances(jepa, [view.apply_to_task(task) for task in tasks], 1) for view in views]
    np.testing.assert_allclose(together, np.mean(each, axis=0), atol=1e-5)
    pair = tasks[0].train[0]
    same = Task("same", (dataclasses.replace(pair, output=pair.input),), (pair,))
    expected = (
        1.0 if pair.output is None or pair.output.shape != pair.input.shape else (pair.output != pair.input).mean()
    )
    assert pixel_distances([same])[0] == pytest.approx(expected / 2)
    assert cosine_distance(torch.eye(2), -torch.eye(2)).tolist() == [2, 2]


def test_validate_jepa_correlation_writes_the_guides_figures_and_leaves_out_what_was_learnt(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, others, run = made
    output = tmp_path / "correlation.json"
    mixed = tmp_path / "mixed.jsonl"
    learnt = Path(yaml.safe_load(recipe.read_text())["data"]["tasks"].removeprefix("manifest:"))
    shared = json.loads(learnt.read_text().splitlines()[0]) | {"task_id": "shared"}
    mixed.write_text(others.read_text() + json.dumps(shared) + "\n")
    arguments = ["--checkpoints", str(run), "--tasks", str(mixed), "--output", str(output), "--workers", "1"]
    assert validate_jepa_correlation([*arguments, "--max-programs", "25"]) == 0
    found = json.loads(output.read_text())
    assert found.keys() >= {
        "pearson_correlation", "p_value", "mean_distance_solved", "mean_distance_failed", "threshold_95_recall",
    }  # fmt: skip
    assert found["left_out"] == ["shared"] and found["tasks"] == 24 and 0 < found["solved"] < 24
    assert output.with_suffix(".png").stat().st_size > 5000
    assert "Pearson" in capsys.readouterr().out
    assert validate_jepa_correlation([*arguments, "--limit", "2"]) == 2
    assert "at least three tasks" in capsys.readouterr().err


def test_a_guided_search_finds_the_same_answers_in_another_order(made: tuple[Path, Path, Path]) -> None:
    _, others, run = made
    tasks = [task.without_answers() for task in load_tasks(f"manifest:{others}")[12:18]]
    limits = Limits(seconds=None, programs=1500)
    answers = []
    for task in tasks:
        plain = Search(task, limits).run()
        delay = LatentGuide(run)(task)
        guided = Search(task, limits, heuristic=delay).run()
        answers.append((plain, guided))
        assert delay(tuple(pair.input for pair in task.train + task.test)) >= 0
    found = [(plain, guided) for plain, guided in answers if plain.solutions and guided.solutions]
    assert len(found) >= 4
    for plain, guided in found:
        assert np.array_equal(plain.solutions[0].answers[0], guided.solutions[0].answers[0])
    assert any(plain.tested != guided.tested for plain, guided in answers)


def test_the_guided_search_is_a_solver(made: tuple[Path, Path, Path]) -> None:
    _, others, run = made
    tasks = [task.without_answers() for task in load_tasks(f"manifest:{others}")[12:15]]
    opened = latent.open(run, "cpu")
    assert (opened.solver.name, opened.step) == ("jepa", load_jepa(run, torch.device("cpu")).step)
    assert opened.parameters > 1000 and opened.training_data
    predictions = {p.task_id: p for p in opened.solver.solve(tasks, Budget(programs_per_task=1500))}
    delay = LatentGuide(run)(tasks[0])
    alone = Search(tasks[0], Limits(seconds=None, programs=1500), heuristic=delay).run()
    assert predictions.keys() == {task.task_id for task in tasks}
    assert predictions[tasks[0].task_id].programs == alone.tested


def test_a_value_equal_to_the_outputs_is_put_off_least(made: tuple[Path, Path, Path]) -> None:
    _, others, run = made
    task = load_tasks(f"manifest:{others}")[0]
    delay = LatentGuide(run)(task.without_answers())
    outputs = tuple(pair.output for pair in task.train + task.test if pair.output is not None)
    inputs = tuple(pair.input for pair in task.train + task.test)
    assert delay(outputs) < delay(inputs)


def test_evaluate_arc_reports_the_latent_guide_and_distances(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, others, run = made
    output = tmp_path / "guided.json"
    arguments = ["--tasks", str(others), "--latent-config", str(run), "--variants", "dsl_only,latent_guided"]
    more = ["--max-programs", "300", "--limit", "8", "--workers", "1", "--output", str(output)]
    assert evaluate([*arguments, *more]) == 0
    found = json.loads(output.read_text())
    assert set(found["variants"]) == {"dsl_only", "latent_guided"}
    assert set(found["latent_distances"]) == {"mean_solved", "mean_failed", "correlation"}
    assert found["settings"]["jepa"].endswith(".pt")
    assert "latent distances" in capsys.readouterr().out
    assert evaluate(["--tasks", str(others), "--latent-config", "configs/jepa/none.yaml", "--output", str(output)]) == 2
    assert "no run of this recipe" in capsys.readouterr().err


def test_variants_add_one_part_after_another() -> None:
    variants = variants_of(JepaConfig())
    assert next(iter(variants)) == "infonce_only" and list(variants)[-1].endswith("sigreg")
    parts = [
        (v.object_encoder.vq_enabled, v.loss.relational_weight > 0, v.loss.translation_weight > 0, v.sigreg.weight > 0)
        for v in variants.values()
    ]
    assert [sum(on) for on in parts] == [0, 1, 2, 3, 4]


def test_the_ablation_compares_all_variants_and_goes_on_after_a_stop(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, _, _ = made
    output = tmp_path / "variants.json"
    arguments = ["--config", str(recipe), "--epochs", "1", "--output", str(output)]
    assert ablate(arguments) == 0
    found = json.loads(output.read_text())["variants"]
    assert len(found) == 5 and all({"success_rate", "avg_loss", "isotropy"} <= set(one) for one in found.values())
    assert output.with_suffix(".png").stat().st_size > 5000
    capsys.readouterr()
    assert ablate(arguments) == 0
    assert capsys.readouterr().out.count("trained before") == 5
    assert json.loads(output.read_text())["variants"] == found


def test_only_tasks_that_search_solves_are_learnt_from(
    made: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, others, _ = made
    monkeypatch.setattr(search_labels, "workspace_folder", lambda: tmp_path)
    config = DataConfig(tasks=f"manifest:{others}", solved_within=3)
    every = load_tasks(f"manifest:{others}")
    limits = Limits(seconds=None, programs=3)
    outcomes = [(task, Search(task.without_answers(), limits).run()) for task in every]
    expected = [task.task_id for task, outcome in outcomes if score_outcome(task, outcome).solved]
    assert 0 < len(expected) < len(every)
    assert [task.task_id for task in training_tasks(config, Console(quiet=True))[1]] == expected
    monkeypatch.setattr(search_labels, "label_by_search", None)  # it is known now
    assert [task.task_id for task in training_tasks(config, Console(quiet=True))[1]] == expected
    (remembered,) = (tmp_path / "data" / "solved_by_search").iterdir()
    remembered.write_text('{"solved": []}')
    with pytest.raises(InputError, match="no task is solved within 3 programs"):
        training_tasks(config, Console(quiet=True))
    remembered.write_text("{")
    with pytest.raises(InputError, match="delete it to search again"):
        training_tasks(config, Console(quiet=True))
