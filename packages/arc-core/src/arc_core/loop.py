"""Parts that all trainers share: device and precision, learning-rate schedules, weight averaging, stopping together."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR

from arc_core.device import require_device
from arc_core.errors import InputError, RunFailure
from arc_core.settings import Device, Precision, Schedule
from arc_core.signals import StopSignals

_FABRIC_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def open_fabric(device: Device, precision: Precision) -> Fabric:
    """Opens a launched Fabric for this process; under torchrun it joins the other processes.

    Args:
        device: device to train on; "auto" is CUDA, else MPS, else the CPU.
        precision: precision of autocast on a GPU. The CPU trains in float32, the only type that is fast on all CPUs.
    Raises:
        InputError: torch does not have the device, or torchrun could not restart processes on several machines.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    require_device(device)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    _join_after_restart("nccl" if device == "cuda" else "gloo", world)
    fabric = Fabric(
        accelerator=device,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world > 1 else 1,
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")) if world > 1 else 1,
        strategy="ddp" if world > 1 else "auto",
        precision=_FABRIC_PRECISION["float32" if device == "cpu" else precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _join_after_restart(backend: str, world: int) -> None:
    """Connects processes that torchrun restarted, under key names of their own.

    torchrun hands them the store of the processes that died, which still holds the addresses of the dead; under the
    same keys the restarted processes would wait for them forever.
    """
    variables = os.environ
    if variables.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return
    if variables["GROUP_WORLD_SIZE"] != "1" and variables.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        # Each machine counts restarts separately, so the count is no key that all processes share.
        raise InputError(
            "--max-restarts on several machines needs the environment variable TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 "
            "for torchrun, and --rdzv-backend c10d; without it restarted processes would wait for dead ones"
        )
    restarts = variables.get("TORCHELASTIC_RESTART_COUNT", "0")
    if restarts != "0":
        address = variables["MASTER_ADDR"], int(variables["MASTER_PORT"])
        store = dist.TCPStore(*address, world, is_master=False)  # type: ignore[attr-defined]
        named = dist.PrefixStore(f"restart {restarts}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=named, rank=int(variables["RANK"]), world_size=world)


def gradient_scaler(fabric: Fabric) -> torch.amp.GradScaler | None:
    """Returns the scaler that keeps float16's gradients from vanishing; None in the other precisions."""
    scaler: torch.amp.GradScaler | None = getattr(fabric.strategy.precision, "scaler", None)
    return scaler


def can_fuse(fabric: Fabric) -> bool:
    """Whether AdamW may be fused, which is faster: exactly where there is no gradient scaler.

    A fused optimiser divides the gradients by the scale inside its step, so that they could not be clipped before.
    """
    return gradient_scaler(fabric) is None


def autocast_dtype(fabric: Fabric) -> torch.dtype:
    """Returns the type that autocast computes matrix products in; float32 without autocast."""
    precision = str(fabric.strategy.precision.precision)
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision, torch.float32)


class GradientStep:
    """The end of an optimiser step: unscales the gradients where a scaler has scaled them, clips, updates the weights.

    Several optimisers count as one for the scaler, so that an overflow lets all of them skip the step and changes the
    scale once.
    """

    def __init__(
        self, fabric: Fabric, parameters: Sequence[nn.Parameter], optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        """Joins optimisers.

        Args:
            fabric: whose precision may have a scaler.
            parameters: whose gradients are clipped by their common norm.
            optimizers: as `fabric.setup` returned them; together they have these parameters.
        """
        self._scaler, self._parameters, self._optimizers = gradient_scaler(fabric), parameters, optimizers
        self._bare_optimizers = [getattr(optimizer, "optimizer", optimizer) for optimizer in optimizers]

    @property
    def param_groups(self) -> list[dict[str, object]]:
        """The groups of all optimisers, whose gradients the scaler unscales."""
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def unscale(self) -> None:
        """Divides the gradients by the scale; to be called once, before `clip`."""
        if self._scaler is not None:
            bare = self._bare_optimizers
            self._scaler.unscale_(self if len(bare) > 1 else bare[0])  # type: ignore[arg-type]  # needs `param_groups`

    def clip(self, max_norm: float | None) -> Tensor:
        """Returns the norm of the gradients, and scales them down to `max_norm` if they are longer; None for never."""
        parameters = [parameter for parameter in self._parameters if parameter.grad is not None]
        if max_norm:
            return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])

    def update(self) -> None:
        """Updates the weights, unless the scaler found an overflow, and clears the gradients."""
        if self._scaler is not None and len(self._optimizers) > 1:
            # Fabric's wrappers would step the scaler with each optimiser.
            self._scaler.step(self)  # type: ignore[arg-type]  # it calls `step` below if no gradient overflowed
            self._scaler.update()
        else:
            for optimizer in self._optimizers:
                optimizer.step()
        for optimizer in self._optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Steps every optimiser; the scaler calls it."""
        for optimizer in self._bare_optimizers:
            optimizer.step()


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, object]) -> None:
    """Restores an optimiser from a checkpoint of the same config, except for `device.`.

    Whether the optimiser is fused follows from the device and precision of this run, not from those of the checkpoint.
    """
    saved_groups = cast("list[dict[str, object]]", state["param_groups"])
    groups = [
        saved | {name: own[name] for name in ("fused",) if name in own}
        for saved, own in zip(saved_groups, optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


def load_scaler(fabric: Fabric, state: object) -> None:
    """Restores the gradient scaler from a checkpoint's state of it where both have one; see `scaler_note`."""
    scaler = gradient_scaler(fabric)
    if scaler is not None and state:
        scaler.load_state_dict(cast("dict[str, object]", state))


def scaler_note(fabric: Fabric, state: object) -> str:
    """Returns a line for the user if only one of the checkpoint and this run has a gradient scaler, else nothing."""
    has_scaler = gradient_scaler(fabric) is not None
    if has_scaler == bool(state):
        return ""
    if has_scaler:
        return "the checkpoint has no gradient scaler, as it is not of float16; a new one starts at its usual scale"
    return "the checkpoint's gradient scaler is left out, as this run does not compute in float16"


def require_even_share(batch_size: int, fabric: Fabric) -> None:
    """Raises InputError unless the processes can share a batch evenly."""
    if batch_size % fabric.world_size:
        raise InputError(
            f"training.batch_size must be a multiple of the {fabric.world_size} processes; got {batch_size}"
        )


def close_fabric(fabric: Fabric) -> None:
    """Waits for all processes and closes their connection; a process that exits early would abort in its threads."""
    if dist.is_available() and dist.is_initialized():
        fabric.barrier()
        dist.destroy_process_group()


@dataclass(frozen=True)
class TrainingResult:
    """The end of a training loop.

    Attributes:
        step: optimiser steps done.
        status: exit status: 0 if finished, 130 or 143 if stopped by a signal; a method may define more.
        message: line for the user; empty if finished.
    """

    step: int
    status: int
    message: str = ""


def should_stop(fabric: Fabric, signals: StopSignals) -> bool:
    """Whether any process received a signal to stop; all processes get the same result at the same step."""
    if fabric.world_size > 1:
        received = torch.tensor(float(signals.received or 0), device=fabric.device)
        latest = int(cast(Tensor, fabric.all_reduce(received, reduce_op="max")).item())
        signals.received = latest or None
    return signals.received is not None


def make_schedule(
    optimizer: torch.optim.Optimizer, name: Schedule, total_steps: int, warmup_fraction: float
) -> LRScheduler:
    """Makes a learning-rate schedule that is stepped once for each optimiser step.

    Args:
        optimizer: its groups' `lr` are the maximum learning rates.
        name: "onecycle", "cosine" or "constant".
        total_steps: optimiser steps of the whole run.
        warmup_fraction: share of the steps, 0..1, in which "onecycle" rises to the maximum.
    """
    if name == "onecycle":
        maxima = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(
            optimizer,
            max_lr=maxima,
            total_steps=total_steps + 1,
            pct_start=warmup_fraction,
            cycle_momentum=False,
        )
    if name == "cosine":
        return CosineAnnealingLR(optimizer, T_max=total_steps)
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


def warmup_cosine(step: int, warmup_steps: int, total_steps: int, min_ratio: float) -> float:
    """Returns the learning rate of a step as a share of the highest: linear warm-up, then half a cosine.

    Args:
        step: index of the optimiser step, from 0.
        warmup_steps: steps until the highest rate; 0 for no warm-up.
        total_steps: optimiser steps of the whole run.
        min_ratio: share at `total_steps`, 0..1.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


class ExponentialAverage:
    """An exponential moving average of weights: a_t = d_t a_{t-1} + (1 - d_t) w_t.

    The decay is d_t = min(decay, (1 + t) / (10 + t)), where t is the optimiser step; the smaller decay of early steps
    lets the average forget the random initialisation.
    Source: TensorFlow's ExponentialMovingAverage, `num_updates`.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}

    def update(self, step: int) -> None:
        """Adds the weights after optimiser step `step`, counted from 0, to the average."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._average.values()), list(self._parameters.values()), 1 - decay)

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Gives the model the averaged weights inside the block and restores its own afterwards."""
        original = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(original)

    def _copy(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(values[name])

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the averages by parameter name."""
        return dict(self._average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores the averages that `state_dict` returned."""
        for name, average in self._average.items():
            average.copy_(state[name])


class LossCheck:
    """Stops a run whose loss is no finite number before anything that this loss has changed is saved.

    A loss on the CPU is checked at once. The host would have to wait for one on a GPU, so such losses are collected
    until `confirm`, which a trainer calls wherever it reads its metrics and before it saves.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._pending: list[tuple[Tensor, int, float]] = []

    def add(self, loss: Tensor, step: int, learning_rate: float) -> None:
        """Checks a loss, now or in `confirm`.

        Args:
            loss: scalar, of this process.
            step, learning_rate: see `check_finite`.
        Raises:
            RunFailure: the loss is on the CPU and no finite number.
        """
        if loss.device.type == "cpu":
            check_finite(loss.item(), step, learning_rate)
        else:
            self._pending.append((loss.detach(), step, learning_rate))

    def confirm(self) -> None:
        """Checks the losses since the last call; all processes call it together.

        Raises:
            RunFailure: one of them, in any process, is no finite number.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        losses = torch.stack([loss for loss, _, _ in pending])
        # One process's loss reaches the weights of all, so that none of them may save.
        means = cast(Tensor, self._fabric.all_reduce(losses)).tolist()
        for mean, (_, step, learning_rate) in zip(means, pending, strict=True):
            check_finite(mean, step, learning_rate)


def check_finite(loss: float, step: int, learning_rate: float) -> None:
    """Checks a loss before its step changes the weights.

    Args:
        loss: the training loss.
        step: optimiser step of the loss, for the message.
        learning_rate: current learning rate, for the message.
    Raises:
        RunFailure: the loss is not a finite number.
    """
    if not loss - loss == 0:
        raise RunFailure(
            f"the loss of step {step} is {loss}; nothing was saved after the last checkpoint. Likely causes: a "
            f"learning rate too high (it is {learning_rate:.2e}; try a third), no gradient clipping, or float16 "
            f"overflow (use bfloat16). Then continue with --resume auto, or start again"
        )
