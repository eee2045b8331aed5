"""Scores on held-out tasks: the last pair's output predicted from its input and the other pairs. T tasks."""

from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from jepa_hrl.jepa.collapse import latent_statistics
from jepa_hrl.jepa.data.batches import DeviceTable, Drawn, Integers, make_batch
from jepa_hrl.jepa.losses.similarity import info_nce
from jepa_hrl.jepa.model.encoder import Encoder
from jepa_hrl.jepa.model.jepa import Jepa

_TASKS_AT_ONCE = 64


class Latents(NamedTuple):
    """Attributes:
    inputs, predictions, outputs: (B, D) of every pair, each output predicted with the task's other pairs as
        demonstrations.
    last: (B,) bool, each task's last pair, a test.
    """

    inputs: Tensor
    predictions: Tensor
    outputs: Tensor
    last: Tensor


@torch.no_grad()
def latents_of(
    model: Jepa, target: Encoder | None, table: DeviceTable, tasks: Integers, shown_last: bool = True
) -> Latents:
    """The latents of all pairs of some tasks, in their order.

    Args:
        target: encoder of the actual outputs; the model's own if None.
        shown_last: a task's last pair is a demonstration to its others.
    """
    training = model.training
    model.eval()
    found = []
    starts = table.table.tasks
    for first in range(0, len(tasks), _TASKS_AT_ONCE):
        some = tasks[first : first + _TASKS_AT_ONCE]
        pairs = np.concatenate([np.arange(starts[task], starts[task + 1]) for task in some])
        owners = np.repeat(np.arange(len(some)), np.diff(starts)[some])
        last = torch.from_numpy(np.append(owners[1:] != owners[:-1], True)).to(table.device)
        batch = make_batch(table, Drawn(pairs, owners), None, np.random.default_rng(0), slice(None))
        predicted = model(batch.tokens, batch.tasks, None if shown_last else ~last)
        actual = predicted.outputs
        if target is not None:
            actual = target(batch.targets).latents
        found.append((predicted.inputs, predicted.predictions, actual, last))
    model.train(training)
    return Latents(*(torch.cat(part) for part in zip(*found, strict=True)))


class Validation:
    """Held-out tasks."""

    def __init__(self, table: DeviceTable, tasks: Integers) -> None:
        self._table, self._tasks = table, tasks

    def score(self, model: Jepa, target: Encoder, averaged: bool, fabric: Fabric) -> dict[str, float]:
        """Contrastive loss, share of outputs whose prediction is nearest, and latent statistics; nothing without tasks.

        Args:
            averaged: the target encoder is what predictions are compared with.
        """
        if len(self._tasks) < 2:
            return {}
        with fabric.autocast():
            found = latents_of(model, target if averaged else None, self._table, self._tasks)
        outputs = found.outputs[found.last]
        places = torch.arange(len(outputs), device=outputs.device)
        temperature = model.temperature.detach()
        loss, right = info_nce(found.predictions[found.last], outputs, places, model.filled_queue, temperature)
        values = {"val/loss": float(loss), "val/retrieval_top1": float(right)}
        for name, latents in (("context", found.inputs), ("target", found.outputs)):
            values |= {f"diagnostics/{name}/{key}": value for key, value in latent_statistics(latents).items()}
        return values
