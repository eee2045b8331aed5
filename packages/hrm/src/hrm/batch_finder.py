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
from arc_core.loop import can_fuse
from hrm.config import HrmConfig
from hrm.data.tokens import window_positions
from hrm.losses import segment_losses
from hrm.model.halting import Batch, q_continue_target
from hrm.model.reasoner import Reasoner
from hrm.optimizers import make_optimizers

_BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_MAX_SECONDS = 20.0  # a step; larger batches take longer still
_MAX_MEMORY_SHARE = 0.9  # of the machine's


@dataclass(frozen=True)
class BatchMeasurement:
    """What a training step of one batch size costs.

    Attributes:
        batch_size: sequences.
        peak_memory: bytes; None where the batch did not fit.
        samples_per_second: forward, backward and optimiser step; 0 where the batch did not fit.
    """

    batch_size: int
    peak_memory: int | None
    samples_per_second: float


def read_memory(device: torch.device) -> tuple[int, int]:
    """Returns the peak of bytes used so far and the bytes that there are: of the GPU, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def measure_batch_sizes(
    config: HrmConfig, fabric: Fabric, batch_sizes: tuple[int, ...] = _BATCH_SIZES
) -> list[BatchMeasurement]:
    """Measures training steps on the 30 x 30 canvas, where a batch needs most memory.

    Args:
        config: model and optimiser.
        fabric: gives device and precision.
        batch_sizes: to try, growing; the first that does not fit or takes too long is the last.
    """
    bare_model = Reasoner(config.model)
    model, *optimizers = fabric.setup(bare_model, *make_optimizers(bare_model, config.training, can_fuse(fabric)))
    device, measurements = fabric.device, list[BatchMeasurement]()
    positions = window_positions(MAX_SIDE, bare_model.prefix_tokens, device=device)
    for batch_size in batch_sizes:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        tokens = torch.randint(1, 12, (batch_size, config.model.seq_len), device=device)
        batch = Batch(tokens, tokens, torch.zeros(batch_size, dtype=torch.int64, device=device), positions)
        start_time = time.perf_counter()
        try:
            for _ in range(2):
                _run_forward_backward(cast(Reasoner, model), batch, config, fabric)
                for optimizer in optimizers:  # their state takes memory too
                    optimizer.step()
                    optimizer.zero_grad()
        except torch.OutOfMemoryError:
            measurements.append(BatchMeasurement(batch_size, None, 0.0))
            break
        seconds = (time.perf_counter() - start_time) / 2
        peak, total = read_memory(device)
        measurements.append(BatchMeasurement(batch_size, peak, batch_size / seconds))
        if seconds > _MAX_SECONDS or (device.type != "cuda" and 2 * peak > _MAX_MEMORY_SHARE * total):
            break
    return measurements


def _run_forward_backward(model: Reasoner, batch: Batch, config: HrmConfig, fabric: Fabric) -> None:
    size = len(batch.tokens)
    puzzle_embeddings = None
    if config.model.puzzle_emb_ndim:
        puzzle_embeddings = torch.zeros(size, config.model.puzzle_emb_ndim, device=fabric.device, requires_grad=True)
    state, output = model(model.initial_state(*batch.tokens.shape), batch.tokens, puzzle_embeddings, batch.positions)
    target = q_continue_target(model, state, batch, puzzle_embeddings, torch.ones(size, device=fabric.device))
    losses = segment_losses(output, batch.labels, target, config.training.loss_type)
    fabric.backward(losses.total / size)


def print_table(
    measurements: list[BatchMeasurement], config: HrmConfig, device: torch.device, console: Console
) -> None:
    """Prints the measurements, and the batch size to choose.

    Args:
        measurements: in growing order of batch size.
        config: whose sequences a step are to be kept.
        device: that was measured.
        console: to print to.
    """
    total_memory = read_memory(device)[1]
    fitting = [row for row in measurements if row.peak_memory is not None]
    best = max(fitting, key=lambda row: row.samples_per_second, default=None)
    table = Table("batch", "peak memory", "samples/s", "", title=f"{config.model.architecture} on {device}, 30 x 30")
    for row in measurements:
        verdict = "out of memory" if row.peak_memory is None else "fastest" if row is best else ""
        peak = row.peak_memory
        memory = "-" if peak is None else f"{peak / 2**30:.1f} of {total_memory / 2**30:.1f} GiB"
        table.add_row(str(row.batch_size), memory, f"{row.samples_per_second:.1f}", verdict)
    console.print(table)
    if best is None:
        console.print("not even a batch of 1 fits: reduce model.hidden_size or the layers, or set "
                      "model.gradient_checkpointing to true", soft_wrap=True)  # fmt: skip
        return
    sequences = config.training.batch_size * config.training.gradient_accumulation_steps
    parts = max(1, round(sequences / best.batch_size))
    console.print(
        f"for the recipe's {sequences} sequences a step: --training.batch_size {best.batch_size} "
        f"--training.gradient_accumulation_steps {parts}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
