"""Telling a program's outcome from other grids. B queries, K keys, Q queued keys, D channels."""

import torch
from torch import Tensor
from torch.nn import functional

from arc_core.distributed import global_mean

# Beside the greatest, what is e^-50 of it is nothing in float32; but its gradient is near the smallest number there is,
# and a CPU takes many times as long over those.
_FAR = 50


def info_nce_of_grids(
    queries: Tensor, keys: Tensor, own: Tensor, names: Tensor, queue: Tensor, queued: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of telling each query's key from those of other grids, and how often it is the nearest.

    Args:
        queries: (B, D).
        keys: (K, D).
        own: (B,) each query's key.
        names: (K,) the grid of each key; keys of the query's own grid are not counted as wrong.
        queue: (Q, D) earlier keys.
        queued: (Q,) their grids.
        temperature: scalar; similarities are cosines over it.
    Source: van den Oord et al. 2018, arXiv:1807.03748, eq. 4, without the negatives that equal the positive.
    """
    others = functional.normalize(torch.cat([keys.float(), queue]), dim=1)
    # Queries over the temperature, and filled in place: a pass over (B, K + Q) logits is what this costs.
    logits = functional.normalize(queries.float(), dim=1) / temperature @ others.T
    rows = torch.arange(len(own), device=own.device)
    with torch.no_grad():  # what is filled has no gradient in any case
        same = names[own][:, None] == torch.cat([names, queued])
        same[rows, own] = False
        logits.masked_fill_(same, -torch.inf)
        far = logits < logits.amax(dim=1, keepdim=True) - _FAR
        far[rows, own] = False
        logits.masked_fill_(far, -torch.inf)
    loss = global_mean(functional.cross_entropy(logits, own, reduction="none"))
    right = global_mean((logits[:, : len(keys)].argmax(dim=1) == own).float())
    return loss, right
