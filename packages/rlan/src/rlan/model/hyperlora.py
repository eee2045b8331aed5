"""HyperLoRA: a hypernetwork that predicts low-rank changes of the solver's weights from the context of each task.

B batch, D channels, I and O the input and output channels of an adapted layer, R rank.
Source: Hu et al. 2022, arXiv:2106.09685, for the low-rank form; Ha et al. 2017, arXiv:1609.09106, for hypernetworks.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlan.config import ModelConfig


class LowRankDelta(NamedTuple):
    """A change of a layer's weight for each sample: the product `down @ up`, which is never multiplied out.

    Attributes:
        down: (B, I, R) factor.
        up: (B, R, O) factor, scaling and clipping included.
    """

    down: Tensor
    up: Tensor

    def __call__(self, cells: Tensor) -> Tensor:
        """Returns what the change adds to the layer's output: (B, S, S, O) for (B, S, S, I) inputs."""
        batch, height, width, _ = cells.shape
        added = (cells.flatten(1, 2) @ self.down.to(cells.dtype)) @ self.up.to(cells.dtype)
        return added.view(batch, height, width, -1)


Deltas = Mapping[str, LowRankDelta]  # by layer name


def widen(value: Tensor) -> Tensor:
    """Returns a metric in float64, where differences of metrics are exact; MPS has none."""
    return value if value.device.type == "mps" else value.double()


def delta_norm(delta: LowRankDelta) -> Tensor:
    """Returns the (B,) Frobenius norms of a change: |AB|^2 is the sum of (A^T A) * (B B^T), which is R x R."""
    with torch.autocast(delta.down.device.type, enabled=False):  # in less than float32 the limit would not hold
        gram = (delta.down.mT @ delta.down) * (delta.up @ delta.up.mT)
        return gram.sum((1, 2)).clamp_min(1e-12).sqrt()


def delta_cosine(delta: LowRankDelta) -> Tensor:
    """Returns the (B, B) cosines between the changes of samples: <AB, CD> is the sum of (A^T C) * (B D^T)."""
    down = torch.einsum("bir,cis->bcrs", delta.down, delta.down)
    up = torch.einsum("bro,cso->bcrs", delta.up, delta.up)
    norm = delta_norm(delta)
    return (down * up).sum((2, 3)) / (norm[:, None] * norm[None])


def delta_metrics(deltas: Deltas) -> dict[str, Tensor]:
    """Returns lora_magnitude_* (mean norm of each layer's change) and lora_diversity (1 - mean cosine between the
    changes of different samples, mean over layers; 0 while all changes vanish) as scalars; empty without HyperLoRA."""
    if not deltas:
        return {}
    with torch.no_grad():
        metrics = {f"lora_magnitude_{name}": delta_norm(delta).mean() for name, delta in deltas.items()}
        batch = len(next(iter(deltas.values())).down)
        if batch > 1:
            cosines = [delta_cosine(delta) for delta in deltas.values()]
            means = torch.stack([(c.sum() - c.trace()) / (batch * (batch - 1)) for c in cosines])
            has_changes = torch.stack(list(metrics.values())).max() > 1e-5
            metrics["lora_diversity"] = torch.where(has_changes, 1 - widen(means.mean()), 0.0)
    return metrics


class HyperLora(nn.Module):
    """Predicts the weight changes of named layers from the context vector.

    `up` starts at zero, so a new model equals one without HyperLoRA; `init_scale` sets the size of `down`. If both
    started at random, the first change would have a norm of 200, from which training does not recover.
    """

    def __init__(self, config: ModelConfig, layers: Mapping[str, tuple[int, int]]) -> None:
        """Builds the predictors.

        Args:
            config: sizes and the settings `hyperlora_*`.
            layers: input and output channels of each layer to adapt, by name.
        """
        super().__init__()
        self.rank, self.scaling, self.max_norm = (
            config.hyperlora_rank, config.hyperlora_scaling, config.hyperlora_max_norm,
        )  # fmt: skip
        self.layers = dict(layers)
        self.norm = nn.RMSNorm(config.hidden_dim)
        self.dropout = nn.Dropout(config.hyperlora_dropout)
        self.down, self.up = nn.ModuleDict(), nn.ModuleDict()
        for name, (inputs, outputs) in layers.items():
            down, up = (nn.Linear(config.hidden_dim, size * self.rank) for size in (inputs, outputs))
            # Each entry of `down` has deviation init_scale / sqrt(inputs), so that cells of unit size stay near it.
            nn.init.normal_(down.weight, std=config.hyperlora_init_scale / (config.hidden_dim * inputs) ** 0.5)
            nn.init.normal_(down.bias, std=config.hyperlora_init_scale / inputs**0.5)
            nn.init.zeros_(up.weight)
            nn.init.zeros_(up.bias)
            self.down[name], self.up[name] = down, up

    def forward(self, context: Tensor) -> dict[str, LowRankDelta]:
        """Returns the changes of every layer for (B, D) context vectors, each of norm at most `max_norm`."""
        context = self.dropout(self.norm(context))
        return {name: self._predict_delta(name, context) for name in self.layers}

    def _predict_delta(self, name: str, context: Tensor) -> LowRankDelta:
        inputs, outputs = self.layers[name]
        down = self.down[name](context).float().view(-1, inputs, self.rank)
        up = self.up[name](context).float().view(-1, self.rank, outputs) * self.scaling
        # The clip's factor has no gradient: it would reward growing past the limit in other directions.
        factor = (self.max_norm / delta_norm(LowRankDelta(down, up)).detach()).clamp(max=1.0)
        return LowRankDelta(down, up * factor[:, None, None])
