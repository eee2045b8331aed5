"""HyperLoRA: the context writes low-rank changes of the solver's weights for its own task.

B batch, D channels, I and O the inputs and outputs of a changed layer, R rank.
Source: Hu et al. 2022, arXiv:2106.09685, for the low-rank form; Ha et al. 2017, arXiv:1609.09106, for weights that a
network writes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlan.config import ModelConfig


class LowRank(NamedTuple):
    """A change of a layer's weight for each sample, `down @ up`, never multiplied out.

    Attributes:
        down: (B, I, R).
        up: (B, R, O), scaling and clipping included.
    """

    down: Tensor
    up: Tensor

    def __call__(self, cells: Tensor) -> Tensor:
        """(B, S, S, O) what the change adds to the layer's output for (B, S, S, I) inputs."""
        batch, height, width, _ = cells.shape
        added = (cells.flatten(1, 2) @ self.down.to(cells.dtype)) @ self.up.to(cells.dtype)
        return added.view(batch, height, width, -1)


Deltas = Mapping[str, LowRank]


def delta_norm(delta: LowRank) -> Tensor:
    """(B,) Frobenius norm of each change: |AB|^2 = sum of (A^T A) * (B B^T), which is R x R."""
    with torch.autocast(delta.down.device.type, enabled=False):  # a limit is kept in float32 or not at all
        gram = (delta.down.mT @ delta.down) * (delta.up @ delta.up.mT)
        return gram.sum((1, 2)).clamp_min(1e-12).sqrt()


def delta_cosine(delta: LowRank) -> Tensor:
    """(B, B) cosines between the changes of different samples: <AB, CD> = sum of (A^T C) * (B D^T)."""
    down = torch.einsum("bir,cis->bcrs", delta.down, delta.down)
    up = torch.einsum("bro,cso->bcrs", delta.up, delta.up)
    norm = delta_norm(delta)
    return (down * up).sum((2, 3)) / (norm[:, None] * norm[None])


def delta_metrics(deltas: Deltas) -> dict[str, float]:
    """lora_magnitude_* (mean norm) of each layer, and lora_diversity: 1 - mean cosine between the changes of different
    samples, mean over layers; 0 while there is no change at all."""
    if not deltas:
        return {}
    with torch.no_grad():
        metrics = {f"lora_magnitude_{name}": float(delta_norm(delta).mean()) for name, delta in deltas.items()}
        number = len(next(iter(deltas.values())).down)
        if number > 1:
            cosines = [delta_cosine(delta) for delta in deltas.values()]
            others = torch.stack([(c.sum() - c.trace()) / (number * (number - 1)) for c in cosines])
            metrics["lora_diversity"] = 1 - float(others.mean()) if max(metrics.values()) > 1e-5 else 0.0
    return metrics


class HyperLora(nn.Module):
    """Predicts the changes of named layers from the context vector.

    `up` starts at zero, so a new model is what it would be without; `init_scale` is the size of `down`. Both random
    would start with a change of norm 200 that no training survives.
    """

    def __init__(self, config: ModelConfig, layers: Mapping[str, tuple[int, int]]) -> None:
        """Args: layers: inputs and outputs of each layer to change."""
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

    def forward(self, context: Tensor) -> dict[str, LowRank]:
        """The changes for (B, D) contexts, each of norm at most `max_norm`."""
        context = self.dropout(self.norm(context))
        return {name: self._change(name, context) for name in self.layers}

    def _change(self, name: str, context: Tensor) -> LowRank:
        inputs, outputs = self.layers[name]
        down = self.down[name](context).float().view(-1, inputs, self.rank)
        up = self.up[name](context).float().view(-1, self.rank, outputs) * self.scaling
        # The clip's factor has no gradient: it would reward growing past the limit in other directions.
        factor = (self.max_norm / delta_norm(LowRank(down, up)).detach()).clamp(max=1.0)
        return LowRank(down, up * factor[:, None, None])
