"""A trained program-conditioned JEPA, loaded to reason with."""

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
    """A trained program-conditioned JEPA with what its checkpoint declares.

    Attributes:
        file: the checkpoint.
        config: that it was trained with.
        model: in evaluation mode, without gradients.
        actions: what its programs are made of.
        training_data: data specs of what it learned from.
        device: that the model lies on.
    """

    file: Path
    config: ProgramJepaConfig
    model: ProgramJepa
    actions: ActionSet
    training_data: tuple[str, ...]
    device: torch.device


def load_program_jepa(path: Path | None, device: torch.device) -> LoadedProgramJepa:
    """Loads the model of a checkpoint or run folder for inference.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if path is None:
        raise InputError(f"a trained program-conditioned JEPA is needed; train one with {TRAIN_COMMAND}")
    file = resolve_checkpoint(path)
    checkpoint = load_checkpoint(file, METHOD)
    jepa = restore_program_jepa(file, checkpoint.config, checkpoint.model, checkpoint.training_data, device)
    if checkpoint.extras.get("actions") != jepa.actions.names:
        raise CheckpointError(f"{file} was trained for other actions; train one with {TRAIN_COMMAND}")
    return jepa


def restore_program_jepa(
    file: Path, config: Mapping[str, object], weights: Mapping[str, Tensor], training_data: tuple[str, ...],
    device: torch.device,
) -> LoadedProgramJepa:  # fmt: skip
    """Builds the model of a stored config and weights for inference.

    Args:
        file: that they are stored in.
        config: as plain values.
        weights: of the model, by their names.
        training_data: data specs of what it learned from.
        device: to put the model on.
    """
    jepa_config, _ = build_config(ProgramJepaConfig, config, str(file))
    actions = make_action_set(jepa_config.actions, jepa_config.max_actions)
    model = ProgramJepa(jepa_config, len(actions)).to(device)
    model.load_state_dict(dict(weights))
    return LoadedProgramJepa(file, jepa_config, model.eval().requires_grad_(False), actions, training_data, device)
