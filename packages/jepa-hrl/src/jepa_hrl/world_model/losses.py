"""The contrastive loss of telling a program's outcome from other grids. B queries, K keys, Q queue, D channels."""

import torch
from torch import Tensor
from torch.nn import functional

from arc_core.distributed import global_mean

# A logit so far below the greatest adds nothing to the sum in float32. Its gradient would be a subnormal number, over
# which a CPU takes many times as long.
_MAX_LOGIT_GAP = 50


def info_nce_of_grids(
    queries: Tensor,
    keys: Tensor,
    targets: Tensor,
    grids: Tensor,
    queue: Tensor,
    queue_grids: Tensor,
    temperature: Tensor,
) -> tuple[Tensor, Tensor]:
    """Computes the cross-entropy of telling each query's key from the keys of other grids.

    Args:
        queries: (B, D) predicted latents.
        keys: (K, D) latents of grids.
        targets: (B,) index of each query's own key.
        grids: (K,) index of each key's grid; keys of the query's own grid are no negatives.
        queue: (Q, D) earlier keys, all of them negatives.
        queue_grids: (Q,) indices of their grids.
        temperature: scalar; logits are cosines divided by it.
    Returns:
        loss: scalar, the mean over the queries of all processes.
        top1: scalar, the share of queries whose own key is the nearest of the batch's keys.
    Source: van den Oord et al. 2018, arXiv:1807.03748, eq. 4, without the negatives that equal the positive.
    """
    candidates = functional.normalize(torch.cat([keys.float(), queue]), dim=1)
    # Queries over the temperature, and filled in place: a pass over (B, K + Q) logits is what this costs.
    logits = functional.normalize(queries.float(), dim=1) / temperature @ candidates.T
    rows = torch.arange(len(targets), device=targets.device)
    with torch.no_grad():  # what is filled has no gradient in any case
        same_grid = grids[targets][:, None] == torch.cat([grids, queue_grids])
        same_grid[rows, targets] = False
        logits.masked_fill_(same_grid, -torch.inf)
        far = logits < logits.amax(dim=1, keepdim=True) - _MAX_LOGIT_GAP
        far[rows, targets] = False
        logits.masked_fill_(far, -torch.inf)
    loss = global_mean(functional.cross_entropy(logits, targets, reduction="none"))
    top1 = global_mean((logits[:, : len(keys)].argmax(dim=1) == targets).float())
    return loss, top1
