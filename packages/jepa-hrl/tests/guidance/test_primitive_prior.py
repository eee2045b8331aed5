"""The prior learns which primitives a task needs, and its costs keep the scale of the primitives' own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from arc_core.checkpoint import CheckpointError, load_checkpoint, resolve_checkpoint, save_checkpoint
from arc_core.datasets import load_tasks
from arc_core.solver import Budget
from arc_core.task import Pair, Task
from jepa_hrl.dsl.library import PRIMITIVES
from jepa_hrl.dsl.program import parse
from jepa_hrl.guidance.cli import main as train_search_prior
from jepa_hrl.guidance.primitive_prior import METHOD, PRIMITIVE_NAMES, Prior, PriorNetwork, load_prior
from jepa_hrl.guidance.step_policy import StepPolicyLoader, load_step_network
from jepa_hrl.guidance.task_features import task_features
from jepa_hrl.guidance.train_prior import primitive_shares
from jepa_hrl.search.engine import Limits, Search
from jepa_hrl.solvers.program_search import open_guided
from jepa_hrl.synthesis.cli import main as generate_dataset

SMALL = [
    "--task_schedule.phase_i.count", "40", "--task_schedule.phase_ii.count", "1",
    "--task_schedule.phase_iii.count", "1", "--program.length_schedule.phase_ii", "{1: 1.0}",
    "--program.length_schedule.phase_iii", "{1: 1.0}", "--grid.max_size", "6",
    "--generator.allowed_primitives", "[flip_horizontal, transpose, upscale_2, fall_down]",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small data set and a run of the prior trained on it."""
    folder = tmp_path_factory.mktemp("prior")
    assert generate_dataset(["--output-dir", str(folder / "data"), "--workers", "1", *SMALL]) == 0
    manifest = str(folder / "data" / "manifest.jsonl")
    flags = ["--steps", "150", "--batch-size", "32", "--workers", "1", "--practice", "60"]
    assert train_search_prior(["--tasks", manifest, *flags, "--run-dir", str(folder / "run")]) == 0
    return folder


def test_features_are_finite_and_see_no_answers() -> None:
    for task in load_tasks("arc1:train")[::40]:
        features = task_features(task)
        assert np.isfinite(features).all()
        assert np.array_equal(features, task_features(task.without_answers()))


def test_primitive_shares_count_the_primitives_of_a_program() -> None:
    shares = primitive_shares(parse("flip_vertical(flip_vertical(crop(pick_max(size, components(input)))))"))
    assert float(shares.sum()) == pytest.approx(1.0)
    assert float(shares[PRIMITIVE_NAMES.index("flip_vertical")]) == pytest.approx(2 / 6)
    assert float(shares[PRIMITIVE_NAMES.index("size")]) == pytest.approx(1 / 6)


def test_a_network_that_says_nothing_leaves_the_costs_as_they_were() -> None:
    network = PriorNetwork(len(task_features(load_tasks("arc1:train")[0])), 4)
    own = torch.tensor([-PRIMITIVES[name].cost for name in PRIMITIVE_NAMES]) * float(np.log(2))
    last = network.layers[-1]
    with torch.no_grad():
        last.weight.zero_()  # type: ignore[operator, union-attr]
        last.bias.copy_(own)  # type: ignore[operator, union-attr]
    bits = Prior(network).bits(load_tasks("arc1:train")[:1])[0]
    for name in PRIMITIVE_NAMES:
        assert bits[name] == pytest.approx(max(PRIMITIVES[name].cost, 1.0), abs=1e-3)


def test_a_trained_prior_makes_the_search_shorter(trained: Path) -> None:
    prior, opened = load_prior(trained / "run")
    assert opened.training_data == (f"manifest:{trained / 'data' / 'manifest.jsonl'}",)
    tasks = [task.without_answers() for task in load_tasks(f"manifest:{trained / 'data' / 'manifest.jsonl'}")]
    limits = Limits(seconds=None, programs=20_000)
    before = after = 0
    for task, bits in zip(tasks, prior.bits(tasks), strict=True):
        plain, guided = Search(task, limits).run(), Search(task, limits, bits).run()
        assert plain.solutions and guided.solutions
        before += plain.solutions[0].tested
        after += guided.solutions[0].tested
    assert after < before / 2


def test_a_prior_of_other_primitives_is_refused(trained: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(resolve_checkpoint(trained / "run"), METHOD)
    for known in ("names", "steps"):
        kept = checkpoint.extras[known][0]  # type: ignore[index]
        checkpoint.extras[known][0] = "another"  # type: ignore[index]
        save_checkpoint(tmp_path / known / "checkpoints", checkpoint, is_best=True, keep_last=1)
        with pytest.raises(CheckpointError, match="another set of primitives"):
            load_prior(tmp_path / known)
        checkpoint.extras[known][0] = kept  # type: ignore[index]


def test_the_guided_solver_uses_the_policy_of_the_same_run(trained: Path) -> None:
    opened = open_guided(trained / "run", "cpu")
    prior, _ = load_prior(trained / "run")
    noise = np.random.default_rng(0).integers(0, 10, (8, 6, 6)).astype(np.uint8)
    pairs = [Pair(noise[n], noise[n + 1]) for n in range(0, 6, 2)]
    task = Task("noise", tuple(pairs), (Pair(noise[6], None),))  # so that no program meets it before the policy leads
    (answer,) = opened.solver.solve([task], Budget(programs_per_task=1200))
    leader = StepPolicyLoader(resolve_checkpoint(trained / "run"))
    limits = Limits(seconds=None, programs=1200)
    led = Search(task, limits, prior.bits([task])[0], policy=leader(task)).run()
    assert answer.programs == led.tested != Search(task, limits, prior.bits([task])[0]).run().tested
    assert opened.parameters == sum(w.numel() for w in prior.network.parameters()) + sum(
        w.numel() for w in load_step_network(leader.file).parameters()
    )


def test_tasks_without_programs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = {"input": [[1]], "output": [[2]]}
    (tmp_path / "m.jsonl").write_text(json.dumps({"task_id": "a", "train": [pair], "test": [pair]}) + "\n")
    assert train_search_prior(["--tasks", str(tmp_path / "m.jsonl")]) == 2
    assert "metadata.program" in capsys.readouterr().err


def test_a_number_of_random_programs_must_be_positive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_search_prior(["--tasks", str(tmp_path / "m.jsonl"), "--practice", "0"]) == 2
    assert "practice.count" in capsys.readouterr().err
