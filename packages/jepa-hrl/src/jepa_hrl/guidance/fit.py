"""The optimisation loop that both guidance networks share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from arc_core.progress import Progress


def fit(
    network: nn.Module, batch_loss: Callable[[int], Tensor], steps: int, peak_rate: float, progress: Progress
) -> None:
    """Trains a network by AdamW under a one-cycle schedule and leaves it in evaluation mode.

    Args:
        network: what is trained, in place.
        batch_loss: returns the loss of a step's batch, given the step's index from 0.
        steps: optimiser steps.
        peak_rate: learning rate at the schedule's top.
        progress: is told the loss every 20 steps.
    """
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, steps + 1)
    for step in range(steps):
        loss = batch_loss(step)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 20 == 19 or step + 1 == steps:
            progress.update(step + 1, f"loss {loss.item():.3f}")
    network.eval()
