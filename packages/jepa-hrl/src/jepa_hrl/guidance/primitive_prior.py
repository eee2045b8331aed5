"""Which primitives a task needs, as a small network reads them off its demonstrations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from arc_core.checkpoint import CheckpointError, load_checkpoint, resolve_checkpoint
from arc_core.errors import InputError
from arc_core.task import Task
from jepa_hrl.dsl.library import PRIMITIVES
from jepa_hrl.guidance.task_features import task_features
from jepa_hrl.search.moves import STEP_NAMES

METHOD = "dsl-guided"
TRAIN_COMMAND = "uv run --package jepa-hrl train-search-prior"
NAMES = tuple(sorted(PRIMITIVES))
_BASE_SHARE = 0.05  # of the primitives' own costs in the mixture, so that none is out of reach
_LEAST_BITS = 1.0


class PriorNetwork(nn.Module):
    """Features of a task to one logit a primitive.

    Args:
        features: F.
        hidden: width of the two hidden layers.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Dropout(0.1), nn.Linear(hidden, len(NAMES)),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) features to (B, primitives) logits."""
        return self.layers((features - self.mean) / self.scale)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Opened:
    """What a prior's checkpoint declares."""

    file: Path
    step: int
    training_data: tuple[str, ...]


@dataclass(frozen=True)
class Prior:
    """A trained network as costs of primitives."""

    network: PriorNetwork

    @torch.no_grad()
    def bits(self, tasks: Sequence[Task]) -> list[Mapping[str, float]]:
        """For each task the cost of every primitive.

        -log2 of a mixture of the network's distribution and the one that the primitives' own costs state, scaled
        as theirs are, so that a primitive of which the network says nothing special costs what it did.
        """
        if not tasks:
            return []
        self.network.eval()
        features = torch.from_numpy(np.stack([task_features(task) for task in tasks]))
        shares = torch.softmax(self.network(features), dim=1)
        own = torch.tensor([2.0 ** -PRIMITIVES[name].cost for name in NAMES])
        total = float(own.sum())
        mixed = (1 - _BASE_SHARE) * shares + _BASE_SHARE * own / total
        bits = (-mixed.log2() - log2(total)).clamp_min(_LEAST_BITS)
        return [dict(zip(NAMES, row, strict=True)) for row in bits.tolist()]


def load_prior(path: Path | None) -> tuple[Prior, Opened]:
    """The prior of a checkpoint or run folder.

    Raises:
        InputError: there is none, or it was trained for other primitives.
    """
    if path is None:
        raise InputError(f"{METHOD} needs a checkpoint; train one with {TRAIN_COMMAND}")
    file = resolve_checkpoint(path)
    checkpoint = load_checkpoint(file, METHOD)
    if (checkpoint.extras.get("names"), checkpoint.extras.get("steps")) != (list(NAMES), list(STEP_NAMES)):
        raise CheckpointError(f"{file} was trained for another set of primitives; train one with {TRAIN_COMMAND}")
    weights = weights_of(checkpoint.model, "primitives")
    network = PriorNetwork(len(weights["mean"]), len(weights["layers.0.bias"]))
    network.load_state_dict(weights)
    return Prior(network.eval()), Opened(file, checkpoint.step, checkpoint.training_data)


def weights_of(model: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """One of the networks that a checkpoint holds: "primitives", or the policy's "steps"."""
    return {name.removeprefix(f"{part}."): weight for name, weight in model.items() if name.startswith(f"{part}.")}
