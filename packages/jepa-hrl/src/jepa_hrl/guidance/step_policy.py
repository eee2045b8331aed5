"""Which step comes next on the way from a value to the outputs, and whether any does, as a network reads it off both.

B values. The network is trained on random programs of all steps (`train_steps`); the search asks it at each value that
it takes up (`led`), so that long programs are led by what their steps have made so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from arc_core.checkpoint import load_checkpoint
from arc_core.task import Task
from jepa_hrl.dsl.types import Array
from jepa_hrl.guidance.primitive_prior import METHOD, weights_of
from jepa_hrl.guidance.step_features import Wanted
from jepa_hrl.search.moves import STEP_NAMES, Colors, Moves, rank_moves

DEMONSTRATIONS = 3  # looked at
_CLAMP = 5.0  # standard deviations


class StepNetwork(nn.Module):
    """Features of values to logits.

    Args:
        features: F.
        hidden: width of the three hidden layers.
    """

    def __init__(self, features: int, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.first = nn.Linear(features, hidden)
        self.middle = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.steps = nn.Linear(hidden, len(STEP_NAMES))
        self.on_way = nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F) features to (B, steps) logits of the next step and (B,) of lying on a way to the outputs."""
        hidden = ((features - self.mean) / self.scale).clamp(-_CLAMP, _CLAMP)
        hidden = self.dropout(functional.gelu(self.first(hidden)))
        for layer in self.middle:
            hidden = hidden + self.dropout(functional.gelu(layer(hidden)))
        return self.steps(hidden), self.on_way(hidden)[:, 0]


class StepPolicy:
    """A trained network for one task's outputs."""

    def __init__(self, network: StepNetwork, outputs: Sequence[Array]) -> None:
        self._network = network.eval()
        self._outputs = outputs[:DEMONSTRATIONS]
        self._wanted = Wanted(self._outputs)
        self._has = _colors(self._outputs)

    @torch.no_grad()
    def moves(self, values: Sequence[Sequence[Array]]) -> list[Moves]:
        """What may be done to each of B values, of which the demonstrations' grids come first."""
        shown = [value[: len(self._outputs)] for value in values]
        logits, on_way = self._network(torch.from_numpy(self._wanted.features(shown)))
        bits = (-functional.log_softmax(logits, dim=1) / log(2)).double().numpy()
        doubts = (-functional.logsigmoid(on_way) / log(2)).tolist()
        return [
            rank_moves(row, doubt, _colors(value), self._has)
            for row, doubt, value in zip(bits, doubts, shown, strict=True)
        ]


def _colors(grids: Sequence[Array]) -> Colors:
    """The colours of grids."""
    counts = np.bincount(np.concatenate([grid.ravel() for grid in grids]), minlength=10)
    return frozenset(np.flatnonzero(counts).tolist()) - {0}


@lru_cache(maxsize=1)
def load_step_network(file: Path) -> StepNetwork:
    """The network of a checkpoint of `train-search-prior`, opened once a process."""
    weights = weights_of(load_checkpoint(file, METHOD).model, "steps")
    network = StepNetwork(len(weights["mean"]), len(weights["first.bias"]))
    network.load_state_dict(weights)
    return network.eval()


@dataclass(frozen=True)
class StepPolicyLoader:
    """The policies of a checkpoint; can be sent to other processes."""

    file: Path

    def __call__(self, task: Task) -> StepPolicy:
        """The policy for a task's demonstrations."""
        return StepPolicy(load_step_network(self.file), [pair.output for pair in task.train if pair.output is not None])
