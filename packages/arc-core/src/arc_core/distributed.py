"""Combines tensors of several processes as if one process held them all; one process alone just keeps its own.

W processes; this one has rank r.
"""

from typing import cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional


def world_size() -> int:
    """Returns the number of processes that train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def global_mean(values: Tensor) -> Tensor:
    """Returns this process's part of the mean over the values of all processes.

    The average of the parts over processes, as DistributedDataParallel averages gradients, is the mean over all values,
    even if processes hold different numbers of them.

    Args:
        values: (n,) float; n may differ between processes and may be 0.
    Returns:
        Scalar: the sum of this process's values times W, divided by the number of all values; 0 if there are none.
    """
    count, world = torch.full((), float(len(values)), device=values.device), world_size()
    if world > 1:
        dist.all_reduce(count)
    return values.sum() * (world / count.clamp_min(1))


def all_gather_blocks(rows: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Gathers rows in the order of the global batch, of which rank r holds blocks r, r + W, and so on.

    Args:
        rows: (B, ...) rows of this process, B the same for all processes; no gradient flows.
        block: number of rows in a block; divides B.
    Returns:
        The (W B, ...) rows, and the (B,) positions of this process's own rows among them.
    """
    world = world_size()
    if world == 1:
        return rows, torch.arange(len(rows), device=rows.device)
    parts = [torch.empty_like(rows) for _ in range(world)]
    dist.all_gather(parts, rows.contiguous())
    blocks = torch.stack([part.reshape(-1, block, *part.shape[1:]) for part in parts], dim=1)
    order = torch.arange(blocks.shape[0] * world * block, device=rows.device).reshape(-1, world, block)
    return blocks.flatten(0, 2), order[:, dist.get_rank()].flatten()


def all_gather_ragged(rows: Tensor) -> list[Tensor]:
    """Gathers the rows of every process as one tensor for each rank; no gradient flows.

    Args:
        rows: (n, ...) rows of this process; n may differ between processes.
    """
    world = world_size()
    if world == 1:
        return [rows]
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(world)]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    sizes = torch.cat(counts).tolist()
    padded = torch.cat([rows, rows.new_zeros(max(sizes) - len(rows), *rows.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]


def all_gather_ordered(rows: Tensor, positions: Tensor) -> Tensor:
    """Gathers rows in the order of their positions, which is the order that a single process would have.

    Args:
        rows: (n, D) rows of this process; n may differ between processes. No gradient flows.
        positions: (n,) int64 position of each row in the global batch; rows with equal positions belong to one
            process and keep their order.
    Returns:
        (N, D) rows, N the sum of all n.
    """
    if world_size() > 1:
        rows, positions = torch.cat(all_gather_ragged(rows)), torch.cat(all_gather_ragged(positions))
    return rows[positions.argsort(stable=True)]


def all_gather_with_gradient(rows: Tensor, labels: Tensor, fabric: Fabric) -> tuple[Tensor, Tensor, int]:
    """Gathers rows rank after rank; gradients flow back to the process that each row came from.

    Args:
        rows: (n, D) rows of this process; n may differ between processes.
        labels: (n,) integers that belong to the rows.
        fabric: the Fabric of these processes.
    Returns:
        The (N, D) rows, the (N,) labels, and the position of this process's first row among them.
    """
    if fabric.world_size == 1:
        return rows, labels, 0
    all_labels = all_gather_ragged(labels)
    counts = [len(part) for part in all_labels]
    padded = functional.pad(rows, (0, 0, 0, max(counts) - len(rows)))
    parts = cast(Tensor, fabric.all_gather(padded, sync_grads=True))
    gathered = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return gathered, torch.cat(all_labels), sum(counts[: fabric.global_rank])
