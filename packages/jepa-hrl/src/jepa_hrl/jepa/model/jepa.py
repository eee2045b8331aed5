"""Predicting the latent of an output from its input and the task's other pairs. B pairs of T tasks, D channels."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from jepa_hrl.jepa.config import JepaConfig
from jepa_hrl.jepa.data.augment import Tokens
from jepa_hrl.jepa.model.encoder import Encoded, Encoder


class Predictor(nn.Module):
    """An input's latent and the change that demonstrations show to the output's latent.

    A demonstration's change is read off both its latents; the mean over the demonstrations is added to what the
    prediction starts from, so that their order and number do not matter.
    """

    def __init__(self, latent: int, hidden: int) -> None:
        super().__init__()
        self.read_change = nn.Sequential(nn.Linear(2 * latent, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.predict = nn.Sequential(
            nn.LayerNorm(latent + hidden), nn.Linear(latent + hidden, 2 * hidden), nn.GELU(),
            nn.Linear(2 * hidden, hidden), nn.GELU(), nn.Linear(hidden, latent),
        )  # fmt: skip

    def forward(self, inputs: Tensor, outputs: Tensor, tasks: Tensor, shown: Tensor | None = None) -> Tensor:
        """(B, D) predicted output latents, each from its input and its task's other shown pairs.

        Args:
            inputs, outputs: (B, D) latents.
            tasks: (B,) which task each pair is of, from 0.
            shown: (B,) bool, which pairs serve as demonstrations; all by default.
        """
        changes = self.read_change(torch.cat([inputs, outputs], dim=1))
        weight = torch.ones_like(changes[:, :1]) if shown is None else shown[:, None].to(changes.dtype)
        count = int(tasks.max()) + 1
        total = changes.new_zeros(count, changes.shape[1]).index_add(0, tasks, changes * weight)
        number = weight.new_zeros(count, 1).index_add(0, tasks, weight)
        others = (total[tasks] - changes * weight) / (number[tasks] - weight).clamp_min(1)
        change: Tensor = self.predict(torch.cat([inputs, others], dim=1))
        return inputs + change


class Predicted(NamedTuple):
    """Attributes:
    inputs, outputs: (B, D) latents of the context encoder.
    predictions: (B, D) of the outputs' latents.
    encoded: of all grids, inputs first.
    """

    inputs: Tensor
    outputs: Tensor
    predictions: Tensor
    encoded: Encoded


class Jepa(nn.Module):
    """Context encoder, predictor, temperature, and the queue of earlier targets.

    The target encoder is no part of it: it has no gradients (see `trainer`).
    """

    def __init__(self, config: JepaConfig) -> None:
        super().__init__()
        width = config.object_encoder.latent_dim
        self.encoder = Encoder(config.object_encoder)
        self.predictor = Predictor(width, config.object_encoder.hidden_dim)
        start = torch.tensor(config.loss.temperature).log()
        self.log_temperature = nn.Parameter(start, requires_grad=config.loss.learnable_temperature)
        self.queue: Tensor
        self.queue_place: Tensor
        self.register_buffer("queue", torch.zeros(config.loss.queue_size, width))
        self.register_buffer("queue_place", torch.zeros((), dtype=torch.long))  # keys ever put in

    @property
    def temperature(self) -> Tensor:
        """Within 0.01..1 where it is learnt; as given otherwise."""
        temperature = self.log_temperature.exp()
        return temperature.clamp(0.01, 1.0) if self.log_temperature.requires_grad else temperature

    def forward(self, tokens: Tokens, tasks: Tensor, shown: Tensor | None = None) -> Predicted:
        """Encodes inputs and outputs and predicts each pair's output.

        Args:
            tokens: of the B inputs followed by the outputs.
            tasks, shown: (B,) see `Predictor`.
        """
        encoded = self.encoder(tokens)
        inputs, outputs = encoded.latents.chunk(2)
        return Predicted(inputs, outputs, self.predictor(inputs, outputs, tasks, shown), encoded)

    @property
    def filled_queue(self) -> Tensor:
        """(n, D) the keys in the queue."""
        return self.queue[: min(int(self.queue_place), len(self.queue))]

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Puts (K, D) keys in, in order; the oldest make room."""
        size = len(self.queue)
        if size:
            places = (int(self.queue_place) + torch.arange(len(keys), device=keys.device)) % size
            self.queue[places[-size:]] = keys[-size:].to(self.queue.dtype)
            self.queue_place += len(keys)
