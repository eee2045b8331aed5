"""Validation on held-out tasks: the last pair's output is predicted from its input and the other pairs. T tasks."""

from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from jepa_hrl.jepa.collapse import latent_statistics
from jepa_hrl.jepa.data.batches import DeviceTable, Integers, PairSample, make_batch
from jepa_hrl.jepa.losses.similarity import info_nce
from jepa_hrl.jepa.model.encoder import Encoder
from jepa_hrl.jepa.model.jepa import Jepa

_TASKS_PER_BATCH = 64


class PairLatents(NamedTuple):
    """Latents of the pairs of some tasks, task after task. B pairs, D channels.

    Attributes:
        inputs: (B, D) latents of the inputs.
        predictions: (B, D) predicted latents of the outputs, with the task's other pairs as demonstrations.
        outputs: (B, D) actual latents of the outputs.
        last: (B,) bool, each task's last pair, which is a test.
    """

    inputs: Tensor
    predictions: Tensor
    outputs: Tensor
    last: Tensor


@torch.no_grad()
def encode_pairs(
    model: Jepa, target: Encoder | None, table: DeviceTable, tasks: Integers, last_is_demonstration: bool = True
) -> PairLatents:
    """Encodes all pairs of some tasks and predicts their outputs.

    Args:
        model: is left in the mode that it was in.
        target: encoder of the actual outputs; the model's own if None.
        table: tokens of the tasks.
        tasks: (T,) indices of the tasks in the table.
        last_is_demonstration: whether a task's last pair is a demonstration to its others.
    """
    training = model.training
    model.eval()
    batches = []
    starts = table.table.tasks
    for first in range(0, len(tasks), _TASKS_PER_BATCH):
        part = tasks[first : first + _TASKS_PER_BATCH]
        pairs = np.concatenate([np.arange(starts[task], starts[task + 1]) for task in part])
        owners = np.repeat(np.arange(len(part)), np.diff(starts)[part])
        last = torch.from_numpy(np.append(owners[1:] != owners[:-1], True)).to(table.device)
        batch = make_batch(table, PairSample(pairs, owners), None, np.random.default_rng(0), slice(None))
        predicted = model(batch.tokens, batch.tasks, None if last_is_demonstration else ~last)
        actual = predicted.outputs
        if target is not None:
            actual = target(batch.targets).latents
        batches.append((predicted.inputs, predicted.predictions, actual, last))
    model.train(training)
    return PairLatents(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


class Validation:
    """Scores a model on held-out tasks."""

    def __init__(self, table: DeviceTable, tasks: Integers) -> None:
        self._table, self._tasks = table, tasks

    def score(self, model: Jepa, target: Encoder, averaged: bool, fabric: Fabric) -> dict[str, float]:
        """Computes the metrics of the held-out tasks.

        Args:
            model: context encoder and predictor.
            target: the target encoder.
            averaged: whether predictions are compared with the latents of the target encoder, or with the model's own.
            fabric: whose autocast is used.
        Returns:
            val/loss, val/retrieval_top1 and the statistics of latents; nothing if there are fewer than two tasks.
        """
        if len(self._tasks) < 2:
            return {}
        with fabric.autocast():
            latents = encode_pairs(model, target if averaged else None, self._table, self._tasks)
        outputs = latents.outputs[latents.last]
        targets = torch.arange(len(outputs), device=outputs.device)
        temperature = model.temperature.detach()
        predictions = latents.predictions[latents.last]
        loss, top1 = info_nce(predictions, outputs, targets, model.filled_queue, temperature)
        metrics = {"val/loss": float(loss), "val/retrieval_top1": float(top1)}
        for name, vectors in (("context", latents.inputs), ("target", latents.outputs)):
            metrics |= {f"diagnostics/{name}/{key}": value for key, value in latent_statistics(vectors).items()}
        return metrics
