"""The step policy: from a value and the outputs, a network predicts which step comes next on a path to the outputs.

It also predicts whether the value lies on such a path at all. The network is trained on random programs of all steps
(`train_steps`). The search asks it at each value that it expands (`search.policy_guided`), so that long programs are
guided by what their steps have produced so far. B values, F features.
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
from jepa_hrl.guidance.primitive_prior import METHOD, network_weights
from jepa_hrl.guidance.step_features import TargetFeatures
from jepa_hrl.search.moves import STEP_NAMES, Colors, Moves, rank_moves

MAX_DEMONSTRATIONS = 3  # a task's first ones, which the policy reads
_CLAMP = 5.0  # standard deviations


class StepNetwork(nn.Module):
    """A residual MLP from the features of values to logits.

    Args:
        features: F, the number of features.
        hidden: width of the three hidden layers.
        dropout: probability of dropping a hidden unit in training.
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
        self.on_path = nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, F) features to (B, steps) logits of the next step and (B,) logits of lying on a path."""
        hidden = ((features - self.mean) / self.scale).clamp(-_CLAMP, _CLAMP)
        hidden = self.dropout(functional.gelu(self.first(hidden)))
        for layer in self.middle:
            hidden = hidden + self.dropout(functional.gelu(layer(hidden)))
        return self.steps(hidden), self.on_path(hidden)[:, 0]


class StepPolicy:
    """A trained network, applied to the outputs of one task."""

    def __init__(self, network: StepNetwork, outputs: Sequence[Array]) -> None:
        self._network = network.eval()
        self._outputs = outputs[:MAX_DEMONSTRATIONS]
        self._target = TargetFeatures(self._outputs)
        self._output_colors = _colors(self._outputs)

    @torch.no_grad()
    def predict_moves(self, values: Sequence[Sequence[Array]]) -> list[Moves]:
        """Ranks the moves from each of B values, whose grids are in the order of the task's pairs."""
        shown = [value[: len(self._outputs)] for value in values]
        logits, on_path = self._network(torch.from_numpy(self._target.features(shown)))
        bits = (-functional.log_softmax(logits, dim=1) / log(2)).double().numpy()
        on_path_bits = (-functional.logsigmoid(on_path) / log(2)).tolist()
        return [
            rank_moves(row, path_bits, _colors(value), self._output_colors)
            for row, path_bits, value in zip(bits, on_path_bits, shown, strict=True)
        ]


def _colors(grids: Sequence[Array]) -> Colors:
    """Returns the colours that occur in some grids, black apart."""
    counts = np.bincount(np.concatenate([grid.ravel() for grid in grids]), minlength=10)
    return frozenset(np.flatnonzero(counts).tolist()) - {0}


@lru_cache(maxsize=1)
def load_step_network(file: Path) -> StepNetwork:
    """Loads the step network of a checkpoint of `train-search-prior`, once in each process."""
    stored = network_weights(load_checkpoint(file, METHOD).model, "steps")
    # Older checkpoints call the second head on_way.
    weights = {name.replace("on_way.", "on_path."): weight for name, weight in stored.items()}
    network = StepNetwork(len(weights["mean"]), len(weights["first.bias"]))
    network.load_state_dict(weights)
    return network.eval()


@dataclass(frozen=True)
class StepPolicyLoader:
    """Makes the step policies of a checkpoint; can be pickled for other processes."""

    file: Path

    def __call__(self, task: Task) -> StepPolicy:
        """Returns the policy for a task's demonstrations."""
        return StepPolicy(load_step_network(self.file), [pair.output for pair in task.train if pair.output is not None])
