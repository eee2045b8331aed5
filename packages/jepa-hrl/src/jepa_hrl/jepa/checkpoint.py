"""A trained JEPA, opened to encode tasks. T tasks, B pairs, D channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arc_core.checkpoint import Checkpoint, load_checkpoint, resolve_checkpoint
from arc_core.config import build_config
from arc_core.errors import InputError
from arc_core.grid import Grid
from arc_core.task import Task
from jepa_hrl.jepa.config import METHOD, TRAIN_COMMAND, JepaConfig
from jepa_hrl.jepa.data.augment import Tokens
from jepa_hrl.jepa.data.batches import DeviceTable
from jepa_hrl.jepa.data.token_table import build_table
from jepa_hrl.jepa.model.encoder import Encoded, Encoder
from jepa_hrl.jepa.model.jepa import Jepa
from jepa_hrl.jepa.validation import Latents, latents_of
from jepa_hrl.objects.tokens import tokenize


@dataclass(frozen=True)
class LoadedJepa:
    """Attributes:
    file: the checkpoint.
    step: training steps of it.
    target: the encoder of outputs; None where it is the model's own.
    training_data: specs of what was learnt.
    """

    file: Path
    step: int
    config: JepaConfig
    model: Jepa
    target: Encoder | None
    training_data: tuple[str, ...]
    device: torch.device

    def latents(self, tasks: Sequence[Task], workers: int = 1, tests_are_demonstrations: bool = True) -> Latents:
        """Of all pairs of tasks whose tests have outputs, in order.

        Args:
            tests_are_demonstrations: a task's last pair is a demonstration to its others.
        """
        encoder = self.config.object_encoder
        table = build_table(tasks, encoder.connectivity == 8, encoder.one_color, workers)
        numbers = torch.arange(len(tasks)).numpy()
        return latents_of(self.model, self.target, DeviceTable(table, self.device), numbers, tests_are_demonstrations)

    @torch.no_grad()
    def grid_latents(self, grids: Sequence[Grid]) -> Tensor:
        """(B, D) latents of grids as outputs."""
        encoder = self.config.object_encoder
        tokens = tokenize(grids, encoder.connectivity == 8, encoder.one_color)
        owners = np.repeat(np.arange(len(grids)), tokens.counts)
        parts = (torch.from_numpy(part).to(self.device) for part in (tokens.objects, owners, tokens.grids))
        encoded: Encoded = (self.target or self.model.encoder)(Tokens(*parts))
        return encoded.latents


def load_jepa(path: Path | None, device: torch.device) -> LoadedJepa:
    """The JEPA of a checkpoint or run folder.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if path is None:
        raise InputError(f"a trained JEPA is needed; train one with {TRAIN_COMMAND}")
    file = resolve_checkpoint(path)
    checkpoint: Checkpoint = load_checkpoint(file, METHOD, device)
    config, _ = build_config(JepaConfig, checkpoint.config, str(file))
    model = Jepa(config).to(device)
    model.load_state_dict(dict(checkpoint.model))
    target = None
    if config.loss.target == "ema":
        target = Encoder(config.object_encoder).to(device).eval()
        target.load_state_dict(dict(checkpoint.ema))
    return LoadedJepa(file, checkpoint.step, config, model.eval(), target, checkpoint.training_data, device)
