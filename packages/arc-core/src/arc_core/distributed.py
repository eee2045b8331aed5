"""Tensors of several processes as if one process had them all. Without torch.distributed everything is already there.

W processes; this one has rank r.
"""

from typing import cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional


def world_size() -> int:
    """Number of processes that train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def global_mean(values: Tensor) -> Tensor:
    """This process's part of the mean over the values of all processes.

    Averaged over processes, as DistributedDataParallel averages gradients, the parts give the mean over all values,
    also where processes hold different numbers of them.

    Args:
        values: (n,); n may differ between processes and may be 0.
    Returns:
        Scalar: sum of this process's values times W over the number of all values; 0 if there are none at all.
    """
    count, world = torch.tensor(float(len(values)), device=values.device), world_size()
    if world > 1:
        dist.all_reduce(count)
    return values.sum() * (world / count.clamp_min(1))


def all_gather_blocks(rows: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Rows of all processes in the order of the global batch, of which rank r holds blocks r, r + W, and so on.

    Args:
        rows: (B, ...) of this process, B the same for all; no gradient passes.
        block: rows of a block; divides B.
    Returns:
        The (W B, ...) rows, and the (B,) places of this process's own rows among them.
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
    """The rows of every process, one tensor for each rank; no gradient passes.

    Args:
        rows: (n, ...); n may differ between processes.
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


def all_gather_ordered(rows: Tensor, places: Tensor) -> Tensor:
    """Rows of all processes in the order of their places, which is the order that a single process would have.

    Args:
        rows: (n, D) of this process; n may differ between processes. No gradient passes.
        places: (n,) int64 of each row in the global batch; rows with equal places belong to one process and keep
            their order.
    Returns:
        (N, D), N the sum of all n.
    """
    if world_size() > 1:
        rows, places = torch.cat(all_gather_ragged(rows)), torch.cat(all_gather_ragged(places))
    return rows[places.argsort(stable=True)]


def all_gather_with_gradient(rows: Tensor, names: Tensor, fabric: Fabric) -> tuple[Tensor, Tensor, int]:
    """Rows of all processes, rank after rank, through which gradients reach the process that each row came from.

    Args:
        rows: (n, D) of this process; n may differ between processes.
        names: (n,) integers that go with the rows.
        fabric: whose processes these are.
    Returns:
        The (N, D) rows, the (N,) names, and the place of this process's first row among them.
    """
    if fabric.world_size == 1:
        return rows, names, 0
    every_name = all_gather_ragged(names)
    counts = [len(part) for part in every_name]
    padded = functional.pad(rows, (0, 0, 0, max(counts) - len(rows)))
    every = cast(Tensor, fabric.all_gather(padded, sync_grads=True))
    gathered = torch.cat([part[:count] for part, count in zip(every, counts, strict=True)])
    return gathered, torch.cat(every_name), sum(counts[: fabric.global_rank])
