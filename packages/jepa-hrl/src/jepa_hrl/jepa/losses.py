"""Contrastive, relational and invariance losses. B pairs, D channels, Q keys in the queue, M objects."""

import torch
import torch.distributed
from torch import Tensor
from torch.nn import functional

from jepa_hrl.jepa.packed import Rows, rows_of


def gathered(keys: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """(world B, D) the rows of all processes in the order of the global batch, and (B,) where this one's stand there.

    Rank r holds blocks r, r + world, ... of the global batch. No gradient passes.

    Args:
        block: rows of a task.
    """
    if not torch.distributed.is_initialized():
        return keys, torch.arange(len(keys), device=keys.device)
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    parts = [torch.empty_like(keys) for _ in range(world)]
    torch.distributed.all_gather(parts, keys.contiguous())
    blocks = torch.stack([part.reshape(-1, block, part.shape[1]) for part in parts], dim=1)
    order = torch.arange(blocks.shape[0] * world * block, device=keys.device).reshape(-1, world, block)
    return blocks.flatten(0, 2), order[:, rank].flatten()


def in_order_of_all(rows: Tensor, places: Tensor) -> Tensor:
    """(M, H) the rows of all processes in the order of their places, which is the order that one process would have.

    Args:
        rows: (m, H) of this process; m may differ between processes.
        places: (m,) each in the global batch; equal ones, all in one process, keep their order.
    """
    if torch.distributed.is_initialized():
        world = torch.distributed.get_world_size()
        counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(world)]
        torch.distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        most = max(int(count) for count in counts)
        padded = torch.cat([torch.cat([rows, places[:, None].to(rows.dtype)], dim=1),
                            rows.new_zeros(most - len(rows), rows.shape[1] + 1)])  # fmt: skip
        parts = [torch.empty_like(padded) for _ in range(world)]
        torch.distributed.all_gather(parts, padded)
        every = torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])
        rows, places = every[:, :-1], every[:, -1].long()
    return rows[places.argsort(stable=True)]


def mean_of_all(values: Tensor) -> Tensor:
    """Of a process's (n,) values, scaled so that the mean over processes is that over all their values; 0 without any.

    n may differ between processes.
    """
    count, world = torch.tensor(float(len(values)), device=values.device), 1
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(count)
        world = torch.distributed.get_world_size()
    return values.sum() * (world / count.clamp_min(1))


def info_nce(
    queries: Tensor, keys: Tensor, places: Tensor, queue: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of telling each query's key from all others, and how often the right key is nearest.

    Args:
        queries: (B, D).
        keys: (K, D) of the whole batch.
        places: (B,) each query's own key.
        queue: (Q, D) earlier keys, all of them wrong.
        temperature: scalar; similarities are cosines over it.
    Source: van den Oord et al. 2018, arXiv:1807.03748, eq. 4; the queue as in He et al. 2019 (MoCo), arXiv:1911.05722.
    """
    others = functional.normalize(torch.cat([keys, queue]).float(), dim=1)
    logits = functional.normalize(queries.float(), dim=1) @ others.T / temperature
    right = (logits[:, : len(keys)].argmax(dim=1) == places).float().mean()
    return functional.cross_entropy(logits, places), right


def relational(embedded: Tensor, fields: Tensor, grids: Tensor) -> Tensor:
    """How far cosine similarities among a grid's objects differ from those of their token fields: mean square.

    Args:
        embedded: (M, H) embeddings of all objects.
        fields: (M, OBJECT_FIELDS) their tokens.
        grids: (M,) which grid each is of, ascending.
    Returns:
        The mean over all pairs of different objects of one grid, of all processes; 0 if there are none.
    Source: Park et al. 2019, Relational knowledge distillation, arXiv:1904.05068, with cosines for distances.
    """
    rows = rows_of(torch.bincount(grids))
    gaps = _cosines(embedded, rows) - _cosines(fields, rows)
    later = torch.ones(gaps.shape[1:], dtype=torch.bool, device=gaps.device).triu(1)
    pairs = rows.together & (rows.sequences >= 0)[..., None] & later
    return mean_of_all(gaps.masked_select(pairs).square())


def _cosines(vectors: Tensor, rows: Rows) -> Tensor:
    """(R, L, L) cosines of the vectors of a row."""
    spread = rows.spread(functional.normalize(vectors.float(), dim=1))
    return spread @ spread.mT


def invariance(latents: Tensor, changed: Tensor) -> Tensor:
    """Mean of 1 - cosine between latents of grids and of their changed selves, both (B, D)."""
    return (1 - functional.cosine_similarity(latents.float(), changed.float(), dim=1)).mean()
