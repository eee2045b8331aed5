"""Predicts the latent of an output from its input and the task's other pairs. B pairs of T tasks, D channels."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from jepa_hrl.jepa.config import JepaConfig
from jepa_hrl.jepa.data.augment import Tokens
from jepa_hrl.jepa.model.encoder import Encoder, EncoderOutput


class Predictor(nn.Module):
    """Maps an input's latent and the changes that demonstrations show to the output's latent.

    The change of a demonstration is computed from both its latents. The mean change of the demonstrations is what the
    prediction is conditioned on, so that their order and number do not matter.

    Args:
        latent: D, channels of a latent.
        hidden: width of the hidden layers.
    """

    def __init__(self, latent: int, hidden: int) -> None:
        super().__init__()
        self.read_change = nn.Sequential(nn.Linear(2 * latent, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.predict = nn.Sequential(
            nn.LayerNorm(latent + hidden), nn.Linear(latent + hidden, 2 * hidden), nn.GELU(),
            nn.Linear(2 * hidden, hidden), nn.GELU(), nn.Linear(hidden, latent),
        )  # fmt: skip

    def forward(self, inputs: Tensor, outputs: Tensor, tasks: Tensor, is_demonstration: Tensor | None = None) -> Tensor:
        """Predicts each output's latent from its input and the other demonstrations of its task.

        Args:
            inputs: (B, D) latents.
            outputs: (B, D) latents.
            tasks: (B,) index of the task that each pair is of, from 0.
            is_demonstration: (B,) bool, which pairs serve as demonstrations to the others; all by default.
        Returns:
            (B, D) predicted latents.
        """
        changes = self.read_change(torch.cat([inputs, outputs], dim=1))
        if is_demonstration is None:
            weight = torch.ones_like(changes[:, :1])
        else:
            weight = is_demonstration[:, None].to(changes.dtype)
        # There are at most as many tasks as pairs; for their number the host would have to wait.
        total = torch.zeros_like(changes).index_add(0, tasks, changes * weight)
        count = weight.new_zeros(len(tasks), 1).index_add(0, tasks, weight)
        mean_change = (total[tasks] - changes * weight) / (count[tasks] - weight).clamp_min(1)
        change: Tensor = self.predict(torch.cat([inputs, mean_change], dim=1))
        return inputs + change


class JepaOutput(NamedTuple):
    """Latents and predictions of a batch of pairs.

    Attributes:
        inputs: (B, D) latents of the inputs by the context encoder.
        outputs: (B, D) latents of the outputs by the context encoder.
        predictions: (B, D) predicted latents of the outputs.
        encoded: the encoder's output for all grids, inputs first.
    """

    inputs: Tensor
    outputs: Tensor
    predictions: Tensor
    encoded: EncoderOutput


class Jepa(nn.Module):
    """The context encoder, the predictor, the temperature, and a queue of earlier targets.

    The target encoder has no gradients and belongs to the trainer (see `trainer`).
    """

    def __init__(self, config: JepaConfig) -> None:
        super().__init__()
        width = config.object_encoder.latent_dim
        self.encoder = Encoder(config.object_encoder)
        self.predictor = Predictor(width, config.object_encoder.hidden_dim)
        log_temperature = torch.tensor(config.loss.temperature).log()
        self.log_temperature = nn.Parameter(log_temperature, requires_grad=config.loss.learnable_temperature)
        self.queue: Tensor
        self.queue_place: Tensor  # the number of keys enqueued so far; the name is that of stored checkpoints
        self.register_buffer("queue", torch.zeros(config.loss.queue_size, width))
        self.register_buffer("queue_place", torch.zeros((), dtype=torch.long))
        self._num_enqueued: int | None = 0  # the same on the host; None until it is read after loading
        self.register_load_state_dict_post_hook(_forget_place)  # type: ignore[no-untyped-call]  # torch has no annotation

    @property
    def temperature(self) -> Tensor:
        """Scalar by which cosines are divided; within 0.01..1 if it is learned."""
        temperature = self.log_temperature.exp()
        return temperature.clamp(0.01, 1.0) if self.log_temperature.requires_grad else temperature

    def forward(self, tokens: Tokens, tasks: Tensor, is_demonstration: Tensor | None = None) -> JepaOutput:
        """Encodes inputs and outputs and predicts the latent of each pair's output.

        Args:
            tokens: of the B inputs followed by the outputs.
            tasks: (B,) index of the task that each pair is of, from 0.
            is_demonstration: (B,) bool, which pairs serve as demonstrations; all by default.
        """
        encoded = self.encoder(tokens)
        inputs, outputs = encoded.latents.chunk(2)
        predictions = self.predictor(inputs, outputs, tasks, is_demonstration)
        return JepaOutput(inputs, outputs, predictions, encoded)

    @property
    def filled_queue(self) -> Tensor:
        """(n, D) the keys in the queue."""
        return self.queue[: min(self._place(), len(self.queue))]

    def _place(self) -> int:
        """Returns the number of keys enqueued so far."""
        if self._num_enqueued is None:
            self._num_enqueued = int(self.queue_place)
        return self._num_enqueued

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Puts (K, D) keys into the queue in order; they replace the oldest ones."""
        size = len(self.queue)
        if size:
            place = self._place()
            positions = (place + torch.arange(len(keys), device=keys.device)) % size
            self.queue[positions[-size:]] = keys[-size:].to(self.queue.dtype)
            self.queue_place += len(keys)
            self._num_enqueued = place + len(keys)


def _forget_place(model: Jepa, keys: object) -> None:
    """Lets a model that was loaded read its number of enqueued keys anew."""
    model._num_enqueued = None
