"""A trained JEPA, loaded to encode tasks. T tasks, B pairs, D channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arc_core.checkpoint import Checkpoint, load_checkpoint, resolve_checkpoint
from arc_core.config import build_config
from arc_core.device import solving_autocast
from arc_core.errors import InputError
from arc_core.grid import Grid
from arc_core.task import Task
from arc_core.transfer import upload
from jepa_hrl.jepa.config import METHOD, TRAIN_COMMAND, JepaConfig
from jepa_hrl.jepa.data.augment import Tokens
from jepa_hrl.jepa.data.batches import DeviceTable
from jepa_hrl.jepa.data.token_table import build_table
from jepa_hrl.jepa.model.encoder import Encoder, EncoderOutput
from jepa_hrl.jepa.model.jepa import Jepa
from jepa_hrl.jepa.model.packed_attention import make_sequences, plan_sequences
from jepa_hrl.jepa.validation import PairLatents, encode_pairs
from jepa_hrl.objects.tokens import tokenize


@dataclass(frozen=True)
class LoadedJepa:
    """A trained JEPA with what its checkpoint declares.

    Attributes:
        file: the checkpoint.
        step: optimiser steps of the checkpoint.
        config: that it was trained with.
        model: context encoder and predictor, in evaluation mode.
        target: the encoder of outputs; None if it is the model's own.
        training_data: data specs of what it learned from.
        device: that the networks lie on.
    """

    file: Path
    step: int
    config: JepaConfig
    model: Jepa
    target: Encoder | None
    training_data: tuple[str, ...]
    device: torch.device

    def latents(self, tasks: Sequence[Task], workers: int = 1, tests_are_demonstrations: bool = True) -> PairLatents:
        """Encodes and predicts all pairs of tasks, in their order.

        Args:
            tasks: T tasks, whose tests have outputs.
            workers: processes that compute tokens; -1 for one for each core.
            tests_are_demonstrations: whether a task's last pair, a test, is a demonstration to its others.
        """
        encoder = self.config.object_encoder
        table = build_table(tasks, encoder.connectivity == 8, encoder.one_color, workers)
        indices = np.arange(len(tasks))
        device_table = DeviceTable(table, self.device)
        with solving_autocast(self.device, self.config.precision):
            return encode_pairs(self.model, self.target, device_table, indices, tests_are_demonstrations)

    @torch.no_grad()
    def grid_latents(self, grids: Sequence[Grid]) -> Tensor:
        """Encodes grids as outputs: (B, D) latents."""
        encoder = self.config.object_encoder
        tokens = tokenize(grids, encoder.connectivity == 8, encoder.one_color)
        owners = np.repeat(np.arange(len(grids)), tokens.counts)
        objects, device_owners, own_tokens, *layout = upload(
            [tokens.objects, owners, tokens.grids, *plan_sequences(tokens.counts)], self.device
        )
        sequences = make_sequences(tokens.counts, layout)
        with solving_autocast(self.device, self.config.precision):
            encoded: EncoderOutput = (self.target or self.model.encoder)(
                Tokens(objects, device_owners, own_tokens, sequences)
            )
        return encoded.latents


def load_jepa(path: Path | None, device: torch.device) -> LoadedJepa:
    """Loads the JEPA of a checkpoint or run folder.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if path is None:
        raise InputError(f"a trained JEPA is needed; train one with {TRAIN_COMMAND}")
    file = resolve_checkpoint(path)
    checkpoint: Checkpoint = load_checkpoint(file, METHOD)
    config, _ = build_config(JepaConfig, checkpoint.config, str(file))
    model = Jepa(config).to(device)
    model.load_state_dict(dict(checkpoint.model))
    target = None
    if config.loss.target == "ema":
        target = Encoder(config.object_encoder).to(device).eval()
        target.load_state_dict(dict(checkpoint.ema))
    return LoadedJepa(file, checkpoint.step, config, model.eval(), target, checkpoint.training_data, device)
