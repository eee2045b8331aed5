"""SPH, symbolic predicate heads: soft binary predicates of the task that gate the solver.

B batch, S canvas side, D channels, P predicates.
"""

import torch
from torch import Tensor, nn

from rlan.config import ModelConfig


class SymbolicPredicateHeads(nn.Module):
    """Computes predicates from the grid's mean feature and the context, and the gate that they set."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.temperature = config.predicate_temperature
        self.head = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, config.num_predicates))
        self.to_gate = nn.Linear(config.num_predicates, dim)
        nn.init.zeros_(self.to_gate.weight)
        nn.init.zeros_(self.to_gate.bias)

    def forward(self, features: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Returns (B, P) predicates in 0..1.

        Args:
            features: (B, S, S, D) features of the test input's cells.
            context: (B, D) context vector.
            mask: (B, S, S) bool, true on the cells of the test input.
        """
        inside = mask[..., None].to(features.dtype)
        mean = (features * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)
        logits = self.head(torch.cat([mean, context], dim=-1)).float()
        return torch.sigmoid(logits / self.temperature)

    def gate(self, predicates: Tensor) -> Tensor:
        """Returns the (B, 1, 1, D) factor of the solver's candidate state; exactly 1 before training."""
        factor: Tensor = 1 + self.to_gate(predicates)[:, None, None]
        return factor
