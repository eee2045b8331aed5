"""Program triples and the program-conditioned JEPA: files, mathematics, training, two processes against one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning_fabric import Fabric

from arc_core.checkpoint import list_checkpoints, load_checkpoint
from arc_core.distributed import all_gather_with_gradient
from arc_core.errors import ConfigError, InputError
from arc_core.runs import read_metrics
from jepa_hrl.dsl.program import INPUT, evaluate
from jepa_hrl.world_model.actions import (
    ARGUMENT_FEATURES,
    ActionSet,
    apply_color_table,
    infer_color_table,
    make_action_set,
)
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa
from jepa_hrl.world_model.cli import prepare_program_triples as prepare
from jepa_hrl.world_model.cli import train_program_conditioned_jepa as main
from jepa_hrl.world_model.config import STEPS
from jepa_hrl.world_model.data import ProgramSampler, read_triples
from jepa_hrl.world_model.losses import info_nce_of_grids

TORCHRUN = str(Path(sys.executable).parent / "torchrun")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
SMALL = ["flip_horizontal", "flip_vertical", "transpose", "rotate_90", "recolor", "tile_across", "keep_color"]


@pytest.fixture(scope="module")
def triples(curriculum: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("triples") / "small.jsonl"
    assert prepare(["--manifest", str(curriculum), "--output", str(path), "--explored", "4", "--workers", "1"]) == 0
    return path


def write_config(tmp_path: Path, triples: Path, **training: object) -> Path:
    values = {
        "method": "program-jepa", "dataset_triples": str(triples), "actions": SMALL,
        "triples": {"held_out": 0.3},
        "object_encoder": {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "latent_dim": 8, "vq_enabled": False},
        "program_encoder": {"embedding_dim": 8, "hidden_dim": 8, "num_layers": 2, "transition_dim": 16},
        "loss": {"queue_size": 50, "learnable_temperature": True},
        "sigreg": {"weight": 0.05, "num_slices": 16},
        "optimizer": {"lr": 3e-3, "warmup_steps": 2},
        "training": {"epochs": 3, "batch_size": 16, "outcomes_per_grid": 3} | training,
        "validation": {"log_every_steps": 1, "keep_last": 20, "max_triples": 64},
        "device": {"name": "cpu"},
    }  # fmt: skip
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_sixty_four_actions_stand_by_default() -> None:
    found = make_action_set(STEPS, 64)
    assert len(found) == 64 and len(set(found.names)) == 64
    with pytest.raises(ConfigError, match="1 to 63 actions"):
        make_action_set(STEPS, 63)
    with pytest.raises(ConfigError, match="not a step"):
        make_action_set(["fly"], 64)


def test_an_action_does_what_its_program_says() -> None:
    found, rng = make_action_set(STEPS, 64), np.random.default_rng(0)
    for size in [(3, 3), (1, 6), (9, 4), (30, 30), (16, 2)]:
        grid = rng.integers(4, size=size).astype(np.uint8)
        for number, action in enumerate(found.actions):
            made, wanted = found.outcome(number, grid), evaluate(action.extend(INPUT), grid)
            assert np.array_equal(made, wanted) if isinstance(wanted, np.ndarray) else made is None, action.name  # type: ignore[arg-type]


def test_a_table_of_colours_is_inferred_where_one_does() -> None:
    grid = np.array([[1, 2], [0, 1]], dtype=np.uint8)
    table = {1: 5, 2: 1}
    assert infer_color_table([grid], [apply_color_table(grid, table)]) == table
    assert infer_color_table([grid], [grid]) is None
    assert infer_color_table([grid], [np.array([[1, 2], [0, 3]], dtype=np.uint8)]) is None
    assert infer_color_table([grid], [grid[:1]]) is None
    other = np.array([[2]], dtype=np.uint8)
    assert infer_color_table([grid, other], [apply_color_table(grid, table), np.array([[4]], dtype=np.uint8)]) is None


def test_triples_say_what_programs_make_of_grids(triples: Path, rows: list[dict[str, Any]]) -> None:
    actions = make_action_set(STEPS, 64)
    own, explored = 0, 0
    ends: dict[tuple[str, int], list[list[int]]] = {}
    for line in triples.read_text().splitlines():
        record = json.loads(line)
        assert set(record) == {"input", "program", "output", "metadata"}
        grid, after = (np.array(record[name], dtype=np.uint8) for name in ("input", "output"))
        step, arguments, about = record["program"]["type"], record["program"]["args"], record["metadata"]
        if step == "recolor":
            made = apply_color_table(grid, {int(old): new for old, new in arguments["table"].items()})
        else:
            number = actions.index_of(step, arguments)
            assert number is not None
            made = actions.outcome(number, grid)  # type: ignore[assignment]
        assert np.array_equal(made, after)
        if about["explored"]:
            explored += 1
            assert not np.array_equal(grid, after)
        else:
            own += 1
            ends[about["task_id"], about["pair"]] = record["output"]
    assert own == sum(len(row["metadata"]["rule_trace"]) * (len(row["train"]) + 1) for row in rows)
    assert explored > 3 * own
    for row in rows:
        for place, pair in enumerate(row["train"] + row["test"]):
            assert ends[row["task_id"], place] == pair["output"]


def test_triples_are_the_same_whatever_the_workers(curriculum: Path, triples: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.jsonl"
    prepare(["--manifest", str(curriculum), "--output", str(again), "--explored", "4", "--workers", "2"])
    assert again.read_bytes() == triples.read_bytes()


def test_bad_manifests_and_triples_get_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"task_id": "x"}\n')
    assert prepare(["--manifest", str(bad), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "line 1" in error and "train" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    bad.write_text('{"input": [[1]], "program": {"type": "flip_horizontal", "args": {}}, "output": [[1, 2], [3]]}\n')
    with pytest.raises(InputError, match="line 1: must be a record"):
        read_triples(bad, "none", make_action_set(SMALL, 64), 0.1)
    assert main(["--config", str(write_config(tmp_path, tmp_path / "absent"))]) == 2
    assert "prepare-program-triples" in capsys.readouterr().err


def test_programs_follow_their_traces(triples: Path, actions: ActionSet) -> None:
    found = read_triples(triples, "none", actions, 0.3)
    sampler = ProgramSampler(found, ~found.held_out)
    drawn = sampler.draw(np.arange(len(sampler)), 3, 4, np.random.default_rng(0))
    assert (np.bincount(np.unique(drawn.sources, return_inverse=True)[1]) <= 3).all()
    assert (drawn.outcomes[:, 1:] >= 0).any()
    for row in range(len(drawn.sources)):
        grid = found.grids[drawn.sources[row]]
        for action, argument, outcome in zip(
            drawn.actions[row], drawn.arguments[row], drawn.outcomes[row], strict=True
        ):
            if outcome < 0:
                break
            if action == actions.recolor:
                cells = found.argument_rows[argument][10:].reshape(10, 10)
                grid = apply_color_table(grid, {int(old): int(new) for old, new in np.argwhere(cells)})
            else:
                grid = actions.outcome(int(action), grid)  # type: ignore[assignment]
            assert np.array_equal(grid, found.grids[outcome])


@pytest.mark.parametrize("temperature", [0.3, 0.01])
def test_the_loss_is_cross_entropy_over_other_grids(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys, queue = (torch.randn(n, 5, generator=generator).requires_grad_() for n in (4, 7, 3))
    own, names, queued = torch.tensor([2, 0, 5, 6]), torch.tensor([8, 1, 8, 3, 4, 8, 9]), torch.tensor([9, 2, 8])
    loss, right = info_nce_of_grids(queries, keys, own, names, queue, queued, torch.tensor(temperature))
    losses, hits = [], 0
    for row, place in enumerate(own.tolist()):
        scores = {}
        for number, (key, name) in enumerate(zip([*keys, *queue], [*names.tolist(), *queued.tolist()], strict=True)):
            if number == place or name != int(names[place]):
                cosine = torch.cosine_similarity(queries[row].double(), key.double(), dim=0)
                scores[number] = cosine / temperature
        losses.append(torch.logsumexp(torch.stack(list(scores.values())), 0) - scores[place])
        hits += max((n for n in scores if n < 7), key=lambda n: scores[n].item()) == place
    expected = torch.stack(losses).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert float(right) == pytest.approx(hits / 4)
    for found, wanted in zip(
        torch.autograd.grad(loss, (queries, keys)), torch.autograd.grad(expected, (queries, keys)), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_one_process_gathers_its_own_keys() -> None:
    keys, names = torch.randn(3, 2), torch.arange(3)
    every, named, first = all_gather_with_gradient(keys, names, Fabric(accelerator="cpu", devices=1))
    assert every is keys and named is names and first == 0


def test_a_programs_vector_is_that_of_its_steps(jepa: LoadedProgramJepa) -> None:
    model, actions = jepa.model, jepa.actions
    alone = model.action_vectors(actions)
    for number in range(len(actions)):
        torch.testing.assert_close(model.program_vector(actions, [number]), alone[number : number + 1])
    numbers = torch.randint(len(actions), (3, 4))
    padded = model.programs(numbers, torch.zeros(3, 4, ARGUMENT_FEATURES), [2, 4, 1])
    for row, length in enumerate([2, 4, 1]):
        wanted = model.programs(numbers[row : row + 1, :length], torch.zeros(1, length, ARGUMENT_FEATURES))[0]
        torch.testing.assert_close(padded[row, :length], wanted)
    assert not padded[0, 2:].any()
    table = {1: 3, 4: 0}
    feature = torch.from_numpy(actions.argument_features(actions.recolor or 0, table))
    wanted = model.programs(torch.tensor([[actions.recolor]]), feature[None, None])[:, 0]
    torch.testing.assert_close(model.table_vectors(actions, [table]), wanted)


def same(first: Path, second: Path) -> None:
    one, two = load_checkpoint(first, "program-jepa"), load_checkpoint(second, "program-jepa")
    for name in ("model", "optimizer", "extras"):
        leaves = [torch.utils._pytree.tree_leaves(getattr(checkpoint, name)) for checkpoint in (one, two)]
        for a, b in zip(*leaves, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, name


@pytest.mark.slow
def test_a_run_learns_writes_the_guides_files_and_resumes_bit_for_bit(
    tmp_path: Path, triples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, triples, epochs=12)
    base = [sys.executable, "-m", "jepa_hrl.world_model.cli", "--config", str(path)]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    done = subprocess.run([*base, "--run-dir", str(whole)], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "held-out triples" in done.stdout and "next: uv run" in done.stdout
    metrics = json.loads((whole / "metrics.json").read_text())
    assert len(metrics["losses"]) == 12 and metrics["losses"][-1] < metrics["losses"][0]
    assert metrics["prediction_metrics"]["accuracy"] > 0.3
    assert (whole / "checkpoints" / "checkpoint_epoch_0012.pt").exists()
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen([*base, "--run-dir", str(parted), "--resume", "auto"], env=ENVIRONMENT,
                                   stdout=subprocess.DEVNULL)  # fmt: skip
        seen = {file.name for file in list_checkpoints(parted / "checkpoints")}
        deadline = time.monotonic() + 60
        while {file.name for file in list_checkpoints(parted / "checkpoints")} == seen and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        process.wait()
    done = subprocess.run([*base, "--run-dir", str(parted), "--resume", "auto"], env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 0, done.stderr
    last = list_checkpoints(whole / "checkpoints")[0].name
    same(whole / "checkpoints" / last, parted / "checkpoints" / last)


@pytest.mark.slow
def test_two_processes_learn_as_one(tmp_path: Path, triples: Path) -> None:
    path = write_config(tmp_path, triples, epochs=1)
    losses = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        launcher = [TORCHRUN, "--nproc-per-node", "2", "--master-port", str(22000 + os.getpid() % 20000)]
        command = ["-m", "jepa_hrl.world_model.cli", "--config", str(path), "--run-dir", str(folder),
                   "--optimizer.lr", "1e-4"]  # fmt: skip
        done = subprocess.run(
            [*(launcher if processes > 1 else [sys.executable]), *command],
            capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        losses.append([line for line in read_metrics(folder / "metrics.jsonl") if "loss/total" in line])
    assert len(losses[0]) == len(losses[1]) > 3
    for one, two in zip(*losses, strict=True):
        for name in one:
            if name.startswith(("loss/", "train/")):
                assert one[name] == pytest.approx(two[name], abs=2e-4, rel=1e-3), (name, one["step"])
