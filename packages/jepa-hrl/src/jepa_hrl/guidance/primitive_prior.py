"""A prior over primitives: a small network predicts from a task's demonstrations which primitives its program needs."""

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
PRIMITIVE_NAMES = tuple(sorted(PRIMITIVES))
_FIXED_COST_WEIGHT = 0.05  # of the primitives' own costs in the mixture, so that no primitive becomes unreachable
_MIN_BITS = 1.0


class PriorNetwork(nn.Module):
    """An MLP from the features of a task to one logit for each primitive.

    Args:
        features: F, the number of features.
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
            nn.Dropout(0.1), nn.Linear(hidden, len(PRIMITIVE_NAMES)),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, F) features to (B, primitives) logits."""
        return self.layers((features - self.mean) / self.scale)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PriorCheckpoint:
    """What a prior's checkpoint declares.

    Attributes:
        file: the checkpoint.
        step: optimiser steps of the prior.
        training_data: data specs of the tasks that it learned from.
    """

    file: Path
    step: int
    training_data: tuple[str, ...]


@dataclass(frozen=True)
class Prior:
    """A trained network, read as costs of primitives."""

    network: PriorNetwork

    @torch.no_grad()
    def bits(self, tasks: Sequence[Task]) -> list[Mapping[str, float]]:
        """Returns the cost of every primitive for each task.

        The cost is -log2 of a mixture of the network's distribution and the distribution that the primitives' fixed
        costs imply. It is scaled as the fixed costs are, so that a primitive keeps its fixed cost where the network
        predicts nothing special for it.
        """
        if not tasks:
            return []
        self.network.eval()
        features = torch.from_numpy(np.stack([task_features(task) for task in tasks]))
        shares = torch.softmax(self.network(features), dim=1)
        fixed = torch.tensor([2.0 ** -PRIMITIVES[name].cost for name in PRIMITIVE_NAMES])
        total = float(fixed.sum())
        mixture = (1 - _FIXED_COST_WEIGHT) * shares + _FIXED_COST_WEIGHT * fixed / total
        bits = (-mixture.log2() - log2(total)).clamp_min(_MIN_BITS)
        return [dict(zip(PRIMITIVE_NAMES, row, strict=True)) for row in bits.tolist()]


def load_prior(path: Path | None) -> tuple[Prior, PriorCheckpoint]:
    """Loads the prior of a checkpoint or run folder.

    Raises:
        InputError: there is none, or it was trained for other primitives.
    """
    if path is None:
        raise InputError(f"{METHOD} needs a checkpoint; train one with {TRAIN_COMMAND}")
    file = resolve_checkpoint(path)
    checkpoint = load_checkpoint(file, METHOD)
    if (checkpoint.extras.get("names"), checkpoint.extras.get("steps")) != (list(PRIMITIVE_NAMES), list(STEP_NAMES)):
        raise CheckpointError(f"{file} was trained for another set of primitives; train one with {TRAIN_COMMAND}")
    weights = network_weights(checkpoint.model, "primitives")
    network = PriorNetwork(len(weights["mean"]), len(weights["layers.0.bias"]))
    network.load_state_dict(weights)
    return Prior(network.eval()), PriorCheckpoint(file, checkpoint.step, checkpoint.training_data)


def network_weights(model: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Returns the weights of one network of a checkpoint: "primitives" for the prior, "steps" for the step policy."""
    prefix = f"{network}."
    return {name.removeprefix(prefix): weight for name, weight in model.items() if name.startswith(prefix)}
