"""What a reasoner stands on, found among earlier runs."""

import copy
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.config import config_to_dict
from arc_core.errors import RunFailure
from jepa_hrl.rl import prerequisites
from jepa_hrl.rl.config import CLONING_METHOD, EnvConfig, PolicyConfig, ReasonerConfig
from jepa_hrl.rl.imitation import cli as cloning_cli
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

CONSOLE = Console(quiet=True)


SMALL = ReasonerConfig(policy=PolicyConfig(16))


def finish(root: Path, name: str, jepa: LoadedProgramJepa, when: int, config: ReasonerConfig = SMALL) -> Path:
    """A finished run of pretrain-bc, at some second."""
    agent = Agent(jepa, config.policy, 0, undo=config.env.undo)
    checkpoint = Checkpoint(
        method=CLONING_METHOD, step=1, model=agent.policy.state_dict(), optimizer={}, scheduler={},
        extras=agent.extras(), config=config_to_dict(config), data_fingerprint="", training_data=(),
    )  # fmt: skip
    folder = root / "runs" / CLONING_METHOD / name
    save_checkpoint(folder / "checkpoints", checkpoint, True, 1)
    (folder / "summary.json").write_text("{}")
    os.utime(folder / "summary.json", (when, when))
    return folder


def test_a_reasoner_begins_with_a_policy_of_its_own_jepa(
    tmp_path: Path, jepa: LoadedProgramJepa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prerequisites, "workspace_folder", lambda: tmp_path)
    other = replace(jepa, model=copy.deepcopy(jepa.model), file=Path("other"))
    other.model.log_temperature += 1
    theirs = finish(tmp_path, "quick-1", jepa, 100)
    finish(tmp_path, "quick-2", jepa, 50)
    finish(tmp_path, "quick-3", other, 200)  # newer, but it thinks in another JEPA's latents
    others = [replace(SMALL, env=EnvConfig(undo=True)), replace(SMALL, policy=PolicyConfig(24))]
    for number, config in enumerate(others):
        found = finish(tmp_path, f"quick-{5 + number}", jepa, 250 + number, config)
        assert cloning_cli.ensure_cloned_policy(config, jepa, CONSOLE) == found
    assert cloning_cli.ensure_cloned_policy(SMALL, jepa, CONSOLE) == theirs
    damaged = finish(tmp_path, "quick-4", jepa, 300)
    next((damaged / "checkpoints").glob("*.pt")).write_bytes(b"no checkpoint")
    assert cloning_cli.ensure_cloned_policy(SMALL, jepa, CONSOLE) == theirs


def test_where_there_is_none_one_is_cloned_with_the_same_jepa(
    tmp_path: Path, jepa: LoadedProgramJepa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prerequisites, "workspace_folder", lambda: tmp_path)
    other = replace(jepa, model=copy.deepcopy(jepa.model))
    other.model.log_temperature += 1
    finish(tmp_path, "quick-1", other, 100)
    asked: list[list[str]] = []

    def train(arguments: Sequence[str]) -> int:
        asked.append(list(arguments))
        finish(tmp_path, "quick-2", jepa, 50)
        return 0

    monkeypatch.setattr(cloning_cli, "main", train)
    assert cloning_cli.ensure_cloned_policy(SMALL, jepa, CONSOLE).name == "quick-2"
    assert asked == [
        [
            "--env.undo=false", "--policy.hidden_dim=16", "--policy.foresight=true", "--cloning.strays=0",
            f"--program_checkpoint={jepa.file}",
        ]
    ]  # fmt: skip


@pytest.mark.parametrize(
    "work", ["world_model.triples", "jepa.data.token_table", "rl.environment.problems", "synthesis.dataset"]
)
def test_workers_that_compute_grids_start_without_torch(work: str) -> None:
    code = f"import sys, jepa_hrl.{work}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("status", "ends"), [(130, 130), (143, 143), (0, 1)])
def test_a_piece_that_was_stopped_stops_the_command_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, ends: int
) -> None:
    monkeypatch.setattr(prerequisites, "workspace_folder", lambda: tmp_path)
    with pytest.raises(RunFailure, match="go on with train-it --resume auto") as stopped:
        prerequisites.ensure_run(None, "method", "train-it", lambda arguments: status, "policy", CONSOLE)
    assert stopped.value.status == ends
