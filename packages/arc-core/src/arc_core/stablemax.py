"""Stablemax, a softmax with a function of linear growth in place of the exponential."""

import torch
from torch import Tensor


def log_stablemax(logits: Tensor) -> Tensor:
    """Computes log(s(x) / sum s(x)) with s(x) = x + 1 for x >= 0 and 1 / (1 - x) below, over the last axis.

    Source: Prieto et al. 2025, arXiv:2501.04697, eq. 6.
    """
    # Each branch gets an argument for which it is finite, so that neither passes nan gradients to the other.
    above = torch.log1p(logits.clamp_min(0))
    below = -torch.log1p((-logits).clamp_min(0))
    log_s = above + below
    return log_s - torch.logsumexp(log_s, dim=-1, keepdim=True)
