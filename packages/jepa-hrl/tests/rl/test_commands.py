"""The active reasoner's commands: killed, on two processes, hierarchical, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from arc_core.checkpoint import list_checkpoints, load_checkpoint
from arc_core.files import show_path
from arc_core.runs import read_metrics
from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.environment.env import LatentReasoningEnv
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.environment.transition_cache import TransitionCache
from jepa_hrl.rl.ppo.cli import main as train
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

TORCHRUN = str(Path(sys.executable).parent / "torchrun")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def recipe(
    tmp_path: Path, method: str, jepa_file: Path, curriculum: Path, held_out: Path, **more: dict[str, object]
) -> Path:
    values: dict[str, Any] = {
        "method": method, "program_checkpoint": str(jepa_file),
        "env": {"dynamics": "grounded", "max_steps": 4},
        "tasks": {"manifest": str(curriculum), "held_out_manifest": str(held_out), "practice": 0},
        "policy": {"hidden_dim": 16},
        "cloning": {"epochs": 0, "batch_size": 32},
        "trainer": {"iterations": 6, "episodes_per_iter": 8, "steps_per_iter": 4, "minibatches": 2, "epochs": 2},
        "report": {"every": 1, "keep_last": 30},
        "device": {"name": "cpu"},
    }  # fmt: skip
    for name, section in more.items():
        values[name] = values[name] | section
    path = tmp_path / f"{method}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def launch(module: str, *arguments: object, processes: int = 1) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable]
    if processes > 1:
        port = str(23000 + os.getpid() % 20000)
        launcher = [TORCHRUN, "--nproc-per-node", str(processes), "--master-port", port]
    return subprocess.run(
        [*launcher, "-m", f"jepa_hrl.rl.{module}", *map(str, arguments)],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False,
    )  # fmt: skip


def leaves(path: Path, method: str) -> list[object]:
    found = load_checkpoint(path, method)
    parts = [found.model, found.optimizer, found.extras.get("curve")]
    return [leaf for part in parts for leaf in torch.utils._pytree.tree_leaves(part)]


@pytest.mark.slow
def test_a_killed_reasoner_resumes_bit_for_bit(
    tmp_path: Path, jepa_file: Path, curriculum: Path, held_out: Path
) -> None:
    config = recipe(tmp_path, "active-reasoner", jepa_file, curriculum, held_out)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    done = launch("ppo.cli", "--config", config, "--run-dir", whole)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "grounded success" in done.stdout and "next: uv run" in done.stdout
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["training_data"] == ["manifest:none", f"manifest:{show_path(curriculum)}"]
    assert (whole / "curve.png").read_bytes().startswith(b"\x89PNG") and len(summary["curve"]) == 7
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(
            [sys.executable, "-m", "jepa_hrl.rl.ppo.cli", "--config", str(config), "--run-dir", str(parted), "--resume",
             "auto"], env=ENVIRONMENT, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        seen = {file.name for file in list_checkpoints(parted / "checkpoints")}
        deadline = time.monotonic() + 60
        while {file.name for file in list_checkpoints(parted / "checkpoints")} == seen and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        process.wait()
    done = launch("ppo.cli", "--config", config, "--run-dir", parted, "--resume", "auto")
    assert done.returncode == 0, done.stdout + done.stderr
    last = list_checkpoints(whole / "checkpoints")[0].name
    for one, two in zip(
        *(leaves(folder / "checkpoints" / last, "active-reasoner") for folder in (whole, parted)), strict=True
    ):
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "method"), [("ppo.cli", "active-reasoner"), ("imitation.cli", "active-reasoner-bc")]
)
def test_two_processes_learn_as_one(
    tmp_path: Path, jepa_file: Path, curriculum: Path, held_out: Path, module: str, method: str
) -> None:
    # The target of the divergence is off: whether a pass is the last must not hang on rounding.
    more = {"trainer": {"iterations": 2, "target_kl": 0.0}}
    more |= {"cloning": {"epochs": 2}} if module == "imitation.cli" else {}
    config = recipe(tmp_path, method, jepa_file, curriculum, held_out, **more)  # type: ignore[arg-type]
    runs = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        done = launch(module, "--config", config, "--run-dir", folder, processes=processes)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("writing to") == 1
        runs.append(read_metrics(folder / "metrics.jsonl"))
    assert len(runs[0]) == len(runs[1]) > 1
    for one, two in zip(*runs, strict=True):
        for name in one:
            if not name.startswith(("time/", "train/explained")):
                assert one[name] == pytest.approx(two[name], abs=1e-4, rel=1e-3), (name, one["step"])


@pytest.mark.slow
def test_options_and_primitives_are_compared_and_a_stopped_comparison_goes_on(
    tmp_path: Path, jepa_file: Path, curriculum: Path, held_out: Path
) -> None:
    cloning = {"epochs": 1, "batch_size": 16}
    config = recipe(tmp_path, "active-reasoner-bc", jepa_file, curriculum, held_out, cloning=cloning)
    assert launch("imitation.cli", "--config", config, "--run-dir", tmp_path / "cloned").returncode == 0
    more: dict[str, dict[str, object]] = {"trainer": {"iterations": 2}, "cloning": cloning}
    config = recipe(tmp_path, "active-reasoner", jepa_file, curriculum, held_out, **more)
    config.write_text(f"policy_checkpoint: {tmp_path / 'cloned'}\n{config.read_text()}")
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"format": 1, "options": [{"actions": ["flip_horizontal", "tile_across"]}]}))
    arguments = ("--options", options, "--config", config, "--seeds", 0, 1, "--run-dir", tmp_path / "both")
    done = launch("options.cli", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "both" / "hierarchical.json").read_text())
    assert found["options"] == [["flip_horizontal", "tile_across"]] and found["seeds"] == [0, 1]
    assert found["verdict"].startswith("the options are") and found["verdict"] in done.stdout.replace("\n", " ")
    assert set(found["variants"]) == {"primitives", "options"}
    shown = {
        name: json.loads((tmp_path / "both" / f"{name}-shown" / "summary.json").read_text())["results"]
        for name in found["variants"]
    }
    assert shown["primitives"]["steps"] == shown["options"]["steps"]
    assert shown["primitives"]["share_options"] == 0 < shown["options"]["share_options"]
    again = launch("options.cli", *arguments)
    assert again.returncode == 0 and "iteration" not in again.stdout
    assert json.loads((tmp_path / "both" / "hierarchical.json").read_text()) == found


@pytest.mark.slow
def test_maskable_ppo_trains_on_the_environment(
    jepa: LoadedProgramJepa, problems: list[Problem], transitions: TransitionCache
) -> None:
    from sb3_contrib import MaskablePPO

    easy = [problem for problem in problems if len(problem.trace) == 1]
    env = LatentReasoningEnv(transitions, easy, EnvConfig(dynamics="grounded", max_steps=5))
    learner = MaskablePPO("MultiInputPolicy", env, n_steps=64, batch_size=64, seed=0, device="cpu")
    learner.learn(128)
    observation, _ = env.reset(seed=0)
    action, _ = learner.predict(observation, action_masks=env.action_masks())
    assert env.action_masks()[int(action)]


def test_bad_input_gets_one_line(
    tmp_path: Path, jepa_file: Path, curriculum: Path, held_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for section, words in (
        ({"trainer": {"episodes_per_iter": 0}}, "episodes_per_iter must be"),
        ({"env": {"dynamics": "dreamt"}}, "dynamics must be one of"),
        ({"trainer": {"gamma": 0.5}}, "env.gamma must be trainer.gamma"),
        ({"cloning": {"strays": 0.2}}, "cloning.strays must be 0 without env.undo"),
        ({"tasks": {"manifest": str(tmp_path / "absent.jsonl")}}, "does not exist"),
        ({"tasks": {"manifest": str(held_out)}}, "must have tasks that"),
    ):
        config = recipe(tmp_path, "active-reasoner", jepa_file, curriculum, held_out, **section)  # type: ignore[arg-type]
        assert train(["--config", str(config), "--run-dir", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error
