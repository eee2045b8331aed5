"""A trained program-conditioned JEPA, opened to be reasoned with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from arc_core.checkpoint import CheckpointError, load_checkpoint, resolve_checkpoint
from arc_core.config import build_config
from arc_core.errors import InputError
from jepa_hrl.world_model.actions import ActionSet, make_action_set
from jepa_hrl.world_model.config import METHOD, TRAIN_COMMAND, ProgramJepaConfig
from jepa_hrl.world_model.model import ProgramJepa


@dataclass(frozen=True)
class LoadedProgramJepa:
    """Attributes:
    file: the checkpoint.
    training_data: specs of what was learnt.
    """

    file: Path
    config: ProgramJepaConfig
    model: ProgramJepa
    actions: ActionSet
    training_data: tuple[str, ...]
    device: torch.device


def load_program_jepa(path: Path | None, device: torch.device) -> LoadedProgramJepa:
    """The model of a checkpoint or run folder, not to be trained any more.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if path is None:
        raise InputError(f"a trained program-conditioned JEPA is needed; train one with {TRAIN_COMMAND}")
    file = resolve_checkpoint(path)
    checkpoint = load_checkpoint(file, METHOD, device)
    found = restore_program_jepa(file, checkpoint.config, checkpoint.model, checkpoint.training_data, device)
    if checkpoint.extras.get("actions") != found.actions.names:
        raise CheckpointError(f"{file} was trained for other actions; train one with {TRAIN_COMMAND}")
    return found


def restore_program_jepa(
    file: Path, config: Mapping[str, object], weights: Mapping[str, Tensor], training_data: tuple[str, ...],
    device: torch.device,
) -> LoadedProgramJepa:  # fmt: skip
    """The model of a stored config and weights, not to be trained any more."""
    built, _ = build_config(ProgramJepaConfig, config, str(file))
    actions = make_action_set(built.actions, built.max_actions)
    model = ProgramJepa(built, len(actions)).to(device)
    model.load_state_dict(dict(weights))
    return LoadedProgramJepa(file, built, model.eval().requires_grad_(False), actions, training_data, device)
