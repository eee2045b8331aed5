"""One learned vector per puzzle identity, updated by sparse sign-SGD: only the rows of a batch move.

N identities, B batch, E channels.
"""

import torch
from torch import Tensor, nn


class PuzzleEmbedding(nn.Module):
    """Rows of zeros to begin with. Row 0 is the blank identity, which no puzzle has."""

    def __init__(self, identities: int, channels: int) -> None:
        super().__init__()
        self.weights: Tensor
        self.register_buffer("weights", torch.zeros(identities, channels))

    def rows(self, identities: Tensor) -> Tensor:
        """(B, E) rows of (B,) identities, a leaf that collects gradients."""
        return self.weights[identities].requires_grad_()


@torch.no_grad()
def sign_sgd(weights: Tensor, identities: Tensor, gradients: Tensor, learning_rate: float, weight_decay: float) -> None:
    """Moves the rows of (B,) identities against the sign of the sum of their (B, E) gradients, in place.

    w <- w (1 - lr decay) - lr sign(g). Rows outside the batch neither move nor decay.
    Source: Bernstein et al. 2018, arXiv:1802.04434, with decoupled decay, as the published HRM does it.
    """
    unique, inverse = torch.unique(identities, return_inverse=True)
    summed = gradients.new_zeros(len(unique), gradients.shape[1]).index_add_(0, inverse, gradients)
    weights[unique] = weights[unique] * (1 - learning_rate * weight_decay) - learning_rate * summed.sign()
