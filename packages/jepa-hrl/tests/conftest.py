"""Fixtures of several folders: a small curriculum, a program-conditioned JEPA with random weights, problems."""

import json
from pathlib import Path

import pytest
import torch

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.config import config_to_dict
from jepa_hrl.dsl.steps import find_step
from jepa_hrl.jepa.config import EncoderConfig
from jepa_hrl.rl.environment.problems import Problem, load_problems
from jepa_hrl.rl.environment.transition_cache import TransitionCache
from jepa_hrl.synthesis.config import GridConfig
from jepa_hrl.synthesis.dataset import manifest_line
from jepa_hrl.synthesis.generator import PhasePlan, make_practice_task
from jepa_hrl.world_model.actions import ActionSet, make_action_set
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa
from jepa_hrl.world_model.config import ProgramEncoderConfig, ProgramJepaConfig
from jepa_hrl.world_model.model import ProgramJepa

STEPS = ("flip_horizontal", "flip_vertical", "transpose", "rotate_90", "recolor", "tile_across", "keep_color")


@pytest.fixture(scope="session")
def curriculum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of 80 tasks of one and two steps."""
    return _write_manifest(tmp_path_factory.mktemp("curriculum") / "manifest.jsonl", 80, 5)


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of 20 other tasks."""
    return _write_manifest(tmp_path_factory.mktemp("held_out") / "manifest.jsonl", 20, 6)


def _write_manifest(path: Path, count: int, seed: int) -> Path:
    """Writes synthetic tasks of programs of one and two steps."""
    plan = PhasePlan("easy", tuple(map(find_step, STEPS)), (1, 2), (0.6, 0.4), GridConfig(3, 5), (3, 4))
    path.write_text("".join(manifest_line(make_practice_task(plan, number, seed)) for number in range(count)))
    return path


@pytest.fixture(scope="session")
def actions() -> ActionSet:
    """Six steps as actions, one of them for nine colours."""
    return make_action_set(STEPS, 64)


@pytest.fixture(scope="session")
def jepa(actions: ActionSet) -> LoadedProgramJepa:
    """A program-conditioned JEPA with random weights."""
    torch.manual_seed(0)
    config = ProgramJepaConfig(
        actions=STEPS,
        object_encoder=EncoderConfig(hidden_dim=16, num_layers=1, num_heads=2, latent_dim=12, vq_enabled=False),
        program_encoder=ProgramEncoderConfig(8, 12, 2, 16),
    )
    model = ProgramJepa(config, len(actions)).eval().requires_grad_(False)
    return LoadedProgramJepa(Path("none"), config, model, actions, ("manifest:none",), torch.device("cpu"))


@pytest.fixture(scope="session")
def problems(curriculum: Path, actions: ActionSet) -> list[Problem]:
    """The curriculum's tasks as problems of three demonstrations."""
    return load_problems(curriculum, actions, 3)


@pytest.fixture
def rows(curriculum: Path) -> list[dict[str, object]]:
    """The lines of the curriculum's manifest."""
    return [json.loads(line) for line in curriculum.read_text().splitlines()]


@pytest.fixture
def transitions(jepa: LoadedProgramJepa) -> TransitionCache:
    """An empty cache of transitions."""
    return TransitionCache(jepa.model, jepa.actions, jepa.config.object_encoder, jepa.device)


@pytest.fixture(scope="session")
def jepa_file(jepa: LoadedProgramJepa, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of that JEPA."""
    checkpoint = Checkpoint(
        "program-jepa", 1, jepa.model.state_dict(), {}, {}, config_to_dict(jepa.config), "none", ("manifest:none",),
        extras={"actions": jepa.actions.names},
    )  # fmt: skip
    return save_checkpoint(tmp_path_factory.mktemp("jepa") / "checkpoints", checkpoint, True, 1)
