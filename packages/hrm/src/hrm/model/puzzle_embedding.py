"""One learned vector per puzzle identity, updated by sparse sign-SGD: only the rows of a batch move.

N identities, B batch, E channels.
"""

import torch
from torch import Tensor, nn


class PuzzleEmbedding(nn.Module):
    """A table of one vector per puzzle identity, all zeros at first. Row 0 is the blank identity of no puzzle.

    The table is a buffer, so that neither the optimisers nor DDP update it; `sign_sgd` does.
    """

    def __init__(self, identities: int, channels: int) -> None:
        super().__init__()
        self.weights: Tensor
        self.register_buffer("weights", torch.zeros(identities, channels))

    def gather_rows(self, identities: Tensor) -> Tensor:
        """Copies the (B, E) rows of (B,) identities into a leaf tensor that collects their gradients."""
        return self.weights[identities].requires_grad_()


@torch.no_grad()
def sign_sgd(weights: Tensor, identities: Tensor, gradients: Tensor, learning_rate: float, weight_decay: float) -> None:
    """Moves the rows of a batch against the sign of their summed gradients, in place.

    w <- w (1 - lr decay) - lr sign(g). Rows outside the batch neither move nor decay.

    Args:
        weights: (N, E) the table of `PuzzleEmbedding`.
        identities: (B,) int64 rows of the batch; one may occur several times.
        gradients: (B, E) gradients of these rows.
        learning_rate: lr, the size of a step in every channel.
        weight_decay: decay, per unit of learning rate.
    Source: Bernstein et al. 2018, arXiv:1802.04434, with decoupled decay, as the published HRM does it.
    """
    # A row's gradients are summed at the place of its first one in sorted order, so that the number of distinct rows,
    # for which the host would have to wait, is not needed. Equal rows are then written equal values.
    places = torch.searchsorted(identities.sort().values, identities)
    summed = torch.zeros_like(gradients).index_add_(0, places, gradients)[places]
    weights[identities] = weights[identities] * (1 - learning_rate * weight_decay) - learning_rate * summed.sign()
