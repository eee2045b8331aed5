"""The environment from files, for `gymnasium.make` and `gymnasium.make_vec`."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from arc_core.config import build_config
from jepa_hrl.jepa.data.tasks import curriculum_manifest
from jepa_hrl.rl.config import EnvConfig, TasksConfig
from jepa_hrl.rl.environment.env import LatentReasoningEnv, LatentReasoningVectorEnv
from jepa_hrl.rl.environment.problems import Problem, load_problems
from jepa_hrl.rl.environment.transition_cache import TransitionCache
from jepa_hrl.rl.prerequisites import latest_program_jepa
from jepa_hrl.world_model.checkpoint import load_program_jepa


def _load_parts(
    checkpoint: str | None, manifest: str | None, settings: dict[str, Any]
) -> tuple[TransitionCache, list[Problem], EnvConfig]:
    config, _ = build_config(EnvConfig, settings, "the environment's settings")
    jepa = load_program_jepa(Path(checkpoint) if checkpoint else latest_program_jepa(), torch.device("cpu"))
    path = Path(manifest) if manifest else curriculum_manifest(TasksConfig().curriculum, Console(stderr=True))
    problems = load_problems(path, jepa.actions, config.demonstrations)
    return TransitionCache(jepa.model, jepa.actions, jepa.config.object_encoder, jepa.device), problems, config


def make_env(
    checkpoint: str | None = None, manifest: str | None = None, render_mode: str | None = None, **settings: Any
) -> LatentReasoningEnv:
    """Makes the environment for one episode at a time.

    Args:
        checkpoint: run or checkpoint of train-program-conditioned-jepa; the newest run by default.
        manifest: tasks, as generate-dataset writes them; the quick curriculum by default.
        render_mode: "ansi", "rgb_array" or None.
        settings: keys of `EnvConfig`, such as dynamics="grounded" or reward={"step_penalty": 0.1}.
    Raises:
        InputError: a file is missing or cannot be read, or a setting is unknown or out of range.
    """
    return LatentReasoningEnv(*_load_parts(checkpoint, manifest, settings), render_mode=render_mode)


def make_vector_env(
    num_envs: int = 1, checkpoint: str | None = None, manifest: str | None = None, **settings: Any
) -> LatentReasoningVectorEnv:
    """Makes the environment for many episodes that are stepped together.

    Args:
        num_envs: episodes.
        checkpoint, manifest, settings: as in `make_env`.
    Raises:
        InputError: as in `make_env`.
    """
    return LatentReasoningVectorEnv(*_load_parts(checkpoint, manifest, settings), num_envs=num_envs)
