"""What every trainer shares: device and precision, learning-rate schedules, weight averaging, stopping together."""

import math
import os
from collections.abc import Iterator, Mapping
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
    """A launched Fabric for this process; under torchrun it joins the others.

    Args:
        precision: of autocast on a GPU. On the CPU training runs in float32, the only type fast there everywhere.
    Raises:
        InputError: the device is not there, or torchrun could not start dead processes of several machines again.
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
    """Connects processes that torchrun started again, under names of their own.

    torchrun hands them the store of the processes that died, where the addresses of those still stand; joining by the
    same names they would wait for the dead forever.
    """
    variables = os.environ
    if variables.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return
    if variables["GROUP_WORLD_SIZE"] != "1" and variables.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        # How often they were started again is counted on each machine apart, so that it is no common name.
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


def require_even_share(batch_size: int, fabric: Fabric) -> None:
    """Raises InputError unless the processes can share a batch evenly."""
    if batch_size % fabric.world_size:
        raise InputError(
            f"training.batch_size must be a multiple of the {fabric.world_size} processes; got {batch_size}"
        )


def close_fabric(fabric: Fabric) -> None:
    """Waits for all processes and ends their connection; one that exits early would abort in its own threads."""
    if dist.is_available() and dist.is_initialized():
        fabric.barrier()
        dist.destroy_process_group()


@dataclass(frozen=True)
class TrainingResult:
    """How training ended.

    Attributes:
        step: optimiser steps done.
        status: 0 finished, 130 or 143 stopped by a signal; a method may have more.
        message: for the user, empty when finished.
    """

    step: int
    status: int
    message: str = ""


def should_stop(fabric: Fabric, signals: StopSignals) -> bool:
    """Whether any process was asked to stop; all of them learn of it at the same step."""
    if fabric.world_size > 1:
        asked = torch.tensor(float(signals.received or 0), device=fabric.device)
        latest = int(cast(Tensor, fabric.all_reduce(asked, reduce_op="max")).item())
        signals.received = latest or None
    return signals.received is not None


def make_schedule(
    optimizer: torch.optim.Optimizer, name: Schedule, total_steps: int, warmup_fraction: float
) -> LRScheduler:
    """A schedule stepped once an optimiser step, from the groups' `lr` as maximum.

    Args:
        total_steps: optimiser steps of the whole run.
        warmup_fraction: of the steps, for "onecycle".
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
    """Learning rate of an optimiser step as a share of the highest: linear warm-up, then half a cosine.

    Args:
        step: of the optimiser, 0 for the first.
        warmup_steps: after which the rate is the highest; 0 for no warm-up.
        total_steps: of the whole run.
        min_ratio: share that is left at `total_steps`, 0..1.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


class ExponentialAverage:
    """Averaged weights, a_t = d_t a_{t-1} + (1 - d_t) w_t with d_t = min(decay, (1 + t) / (10 + t)).

    The ramp lets early averages forget the random start. Source: TensorFlow's ExponentialMovingAverage, `num_updates`.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._live.items()}

    def update(self, step: int) -> None:
        """Takes in the weights after optimiser step number `step` (0 for the first)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._average.values()), list(self._live.values()), 1 - decay)

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """The model has the averaged weights inside, and its own again after."""
        own = {name: p.detach().clone() for name, p in self._live.items()}
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(own)

    def _copy(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._live.items():
                parameter.copy_(values[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(self._average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes averages over."""
        for name, average in self._average.items():
            average.copy_(state[name])


def check_finite(loss: float, step: int, learning_rate: float) -> None:
    """Raises RunFailure when a loss is not a finite number, before its step reaches the weights."""
    if not loss - loss == 0:
        raise RunFailure(
            f"the loss of step {step} is {loss}; nothing was saved after the last checkpoint. Likely causes: a "
            f"learning rate too high (it is {learning_rate:.2e}; try a third), no gradient clipping, or float16 "
            f"overflow (use bfloat16). Then continue with --resume auto, or start again"
        )
