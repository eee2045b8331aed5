"""Telling a program's outcome from other grids. B queries, K keys, Q queued keys, D channels."""

from typing import cast

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional

from jepa_hrl.jepa.losses import mean_of_all

# Beside the greatest, what is e^-50 of it is nothing in float32; but its gradient is near the smallest number there is,
# and a CPU takes many times as long over those.
_FAR = 50


def gathered_with_gradient(keys: Tensor, names: Tensor, fabric: Fabric) -> tuple[Tensor, Tensor, int]:
    """(K, D) keys and (K,) names of all processes, one after another, and where this one's begin.

    Args:
        keys: (k, D) of this process, k may differ between processes; gradient passes.
        names: (k,).
    """
    if fabric.world_size == 1:
        return keys, names, 0
    counts = cast(Tensor, fabric.all_gather(torch.tensor(len(keys), device=keys.device))).tolist()
    most = max(counts)
    padded = functional.pad(keys, (0, 0, 0, most - len(keys)))
    every = cast(Tensor, fabric.all_gather(padded, sync_grads=True))
    every_name = cast(Tensor, fabric.all_gather(functional.pad(names, (0, most - len(names)))))
    chosen = [(every[rank, :count], every_name[rank, :count]) for rank, count in enumerate(counts)]
    return (
        torch.cat([part for part, _ in chosen]),
        torch.cat([part for _, part in chosen]),
        sum(counts[: fabric.global_rank]),
    )


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
    loss = mean_of_all(functional.cross_entropy(logits, own, reduction="none"))
    right = mean_of_all((logits[:, : len(keys)].argmax(dim=1) == own).float())
    return loss, right
