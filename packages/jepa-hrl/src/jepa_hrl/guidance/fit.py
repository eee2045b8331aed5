"""How the search's networks are trained."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from arc_core.progress import Progress


def fit(network: nn.Module, loss_of: Callable[[int], Tensor], steps: int, peak_rate: float, progress: Progress) -> None:
    """AdamW under a one-cycle schedule; leaves the network in evaluation mode.

    Args:
        loss_of: the loss of a step's batch, a function of the step's number.
        peak_rate: learning rate at the schedule's top.
    """
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, steps + 1)
    for step in range(steps):
        loss = loss_of(step)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 20 == 19 or step + 1 == steps:
            progress.update(step + 1, f"loss {loss.item():.3f}")
    network.eval()
