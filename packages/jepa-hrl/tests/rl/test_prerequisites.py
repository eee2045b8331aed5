"""The runs that training the reasoner requires: earlier ones are used, missing ones are trained."""

import copy
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from arc_core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from arc_core.config import config_to_dict, load_config, parse_overrides, workspace_folder
from arc_core.errors import RunFailure
from jepa_hrl.rl import prerequisites
from jepa_hrl.rl.config import CLONING_COMMAND, CLONING_METHOD, EnvConfig, PolicyConfig, ReasonerConfig
from jepa_hrl.rl.imitation import cli as cloning_cli
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

CONSOLE = Console(quiet=True)
SMALL = ReasonerConfig(policy=PolicyConfig(16))


def finish(root: Path, name: str, jepa: LoadedProgramJepa, when: int, config: ReasonerConfig = SMALL) -> Path:
    """A finished run of pretrain-bc; `when` is its time in seconds."""
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
    finish(tmp_path, "quick-3", other, 200)  # newer, but of another world model
    others = [replace(SMALL, env=EnvConfig(undo=True)), replace(SMALL, policy=PolicyConfig(24))]
    for number, config in enumerate(others):
        fitting = finish(tmp_path, f"quick-{5 + number}", jepa, 250 + number, config)
        assert cloning_cli.ensure_cloned_policy(config, jepa, CONSOLE) == fitting
    assert cloning_cli.ensure_cloned_policy(SMALL, jepa, CONSOLE) == theirs
    damaged = finish(tmp_path, "quick-4", jepa, 300)
    next((damaged / "checkpoints").glob("*.pt")).write_bytes(b"no checkpoint")
    assert cloning_cli.ensure_cloned_policy(SMALL, jepa, CONSOLE) == theirs


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, env=EnvConfig(undo=True)),
        ReasonerConfig(policy=PolicyConfig(24, foresight=False)),
    ],
)
def test_where_there_is_no_policy_one_is_cloned_that_the_reasoner_can_start_from(
    tmp_path: Path, jepa: LoadedProgramJepa, monkeypatch: pytest.MonkeyPatch, config: ReasonerConfig
) -> None:
    recipe = workspace_folder() / "configs" / CLONING_METHOD / "quick.yaml"
    monkeypatch.setattr(prerequisites, "workspace_folder", lambda: tmp_path)
    other = replace(jepa, model=copy.deepcopy(jepa.model))
    other.model.log_temperature += 1
    finish(tmp_path, "quick-1", other, 100, config)  # of another world model

    def train(arguments: Sequence[str]) -> int:
        """Finishes a run of what pretrain-bc reads from these arguments."""
        overrides = parse_overrides(arguments)
        asked, _ = load_config(ReasonerConfig, CLONING_METHOD, {CLONING_METHOD: CLONING_COMMAND}, recipe, overrides)
        assert asked.program_checkpoint == str(jepa.file)
        finish(tmp_path, "quick-2", jepa, 50, asked)
        return 0

    monkeypatch.setattr(cloning_cli, "main", train)
    policy = cloning_cli.ensure_cloned_policy(config, jepa, CONSOLE)
    assert policy.name == "quick-2"
    agent = Agent(jepa, config.policy, 1, undo=config.env.undo)
    agent.load_policy(load_checkpoint(policy, CLONING_METHOD))
    monkeypatch.setattr(cloning_cli, "main", None)  # it is there now
    assert cloning_cli.ensure_cloned_policy(config, jepa, CONSOLE) == policy


@pytest.mark.parametrize(
    "work", ["world_model.triples", "jepa.data.token_table", "rl.environment.problems", "synthesis.dataset"]
)
def test_workers_that_compute_grids_start_without_torch(work: str) -> None:
    code = f"import sys, jepa_hrl.{work}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("status", "ends"), [(130, 130), (143, 143), (0, 1)])
def test_a_prerequisite_that_was_stopped_stops_the_command_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, ends: int
) -> None:
    monkeypatch.setattr(prerequisites, "workspace_folder", lambda: tmp_path)
    with pytest.raises(RunFailure, match="go on with train-it --resume auto") as stopped:
        prerequisites.ensure_run(None, "method", "train-it", lambda arguments: status, "policy", CONSOLE)
    assert stopped.value.status == ends
