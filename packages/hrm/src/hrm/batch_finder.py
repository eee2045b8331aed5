"""`train-hrm --find-batch-size`: memory and speed of growing batches on this machine, as a table."""

import os
import resource
import sys
import time
from dataclasses import dataclass
from typing import cast

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table

from arc_core.grid import MAX_SIDE
from hrm.config import HrmConfig
from hrm.data.tokens import positions
from hrm.losses import segment_losses
from hrm.model.halting import Batch, go_on_target
from hrm.model.reasoner import Reasoner
from hrm.optimizers import make_optimizers

_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_MOST_SECONDS = 20.0  # a step; larger batches take longer still
_MOST_MEMORY = 0.9  # of the machine's


@dataclass(frozen=True)
class Measured:
    """A batch size: peak memory in bytes, None where it did not fit, and samples a second."""

    size: int
    memory: int | None
    rate: float


def memory_of(device: torch.device) -> tuple[int, int]:
    """(peak bytes so far, bytes there are) of the device; of the CPU, of this process and of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def measure(config: HrmConfig, fabric: Fabric, sizes: tuple[int, ...] = _SIZES) -> list[Measured]:
    """Training steps on the 30 x 30 canvas, where a batch needs most, until one does not fit or takes too long."""
    bare = Reasoner(config.model)
    model, *optimizers = fabric.setup(bare, *make_optimizers(bare, config.training))
    device, found = fabric.device, list[Measured]()
    places = positions(MAX_SIDE, bare.prefix, device=device)
    for size in sizes:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        tokens = torch.randint(1, 12, (size, config.model.seq_len), device=device)
        batch = Batch(tokens, tokens, torch.zeros(size, dtype=torch.int64, device=device), places)
        began = time.perf_counter()
        try:
            for _ in range(2):
                _step(cast(Reasoner, model), batch, config, fabric)
                for optimizer in optimizers:  # their state takes memory too
                    optimizer.step()
                    optimizer.zero_grad()
        except torch.OutOfMemoryError:
            found.append(Measured(size, None, 0.0))
            break
        seconds = (time.perf_counter() - began) / 2
        peak, whole = memory_of(device)
        found.append(Measured(size, peak, size / seconds))
        if seconds > _MOST_SECONDS or (device.type != "cuda" and 2 * peak > _MOST_MEMORY * whole):
            break
    return found


def _step(model: Reasoner, batch: Batch, config: HrmConfig, fabric: Fabric) -> None:
    size = len(batch.tokens)
    puzzles = None
    if config.model.puzzle_emb_ndim:
        puzzles = torch.zeros(size, config.model.puzzle_emb_ndim, device=fabric.device, requires_grad=True)
    state, answer = model(model.start(*batch.tokens.shape), batch.tokens, puzzles, batch.positions)
    target = go_on_target(model, state, batch, puzzles, torch.ones(size, device=fabric.device))
    losses = segment_losses(answer, batch.labels, target, config.training.loss_type)
    fabric.backward(losses.total / size)


def show(found: list[Measured], config: HrmConfig, device: torch.device, console: Console) -> None:
    """The table, and the batch size to take."""
    whole = memory_of(device)[1]
    fitting = [row for row in found if row.memory is not None]
    best = max(fitting, key=lambda row: row.rate, default=None)
    table = Table("batch", "peak memory", "samples/s", "", title=f"{config.model.architecture} on {device}, 30 x 30")
    for row in found:
        verdict = "out of memory" if row.memory is None else "fastest" if row is best else ""
        memory = "-" if row.memory is None else f"{row.memory / 2**30:.1f} of {whole / 2**30:.1f} GiB"
        table.add_row(str(row.size), memory, f"{row.rate:.1f}", verdict)
    console.print(table)
    if best is None:
        console.print("not even a batch of 1 fits: reduce model.hidden_size or the layers, or set "
                      "model.gradient_checkpointing to true", soft_wrap=True)  # fmt: skip
        return
    wanted = config.training.batch_size * config.training.gradient_accumulation_steps
    parts = max(1, round(wanted / best.size))
    console.print(
        f"for the recipe's {wanted} sequences a step: --training.batch_size {best.size} "
        f"--training.gradient_accumulation_steps {parts}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
