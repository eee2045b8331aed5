"""Losses of cosine similarities: contrastive, relational, invariance. B pairs, D channels, Q queued keys, M objects."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from arc_core.distributed import global_mean
from arc_core.transfer import upload
from jepa_hrl.jepa.model.packed_attention import Integers, PackedRows, plan_rows


def cosine_distance(latents: Tensor, others: Tensor) -> Tensor:
    """Returns (...,) one minus the cosine of (..., D) latents: 0 for the same direction, 2 for the opposite one."""
    return 1 - functional.cosine_similarity(latents, others, dim=-1)


def info_nce(
    queries: Tensor, keys: Tensor, targets: Tensor, queue: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor]:
    """Computes the cross-entropy of telling each query's key from all others.

    Args:
        queries: (B, D).
        keys: (K, D) of the whole batch.
        targets: (B,) index of each query's own key.
        queue: (Q, D) earlier keys, all of them negatives.
        temperature: scalar; logits are cosines divided by it.
    Returns:
        loss: scalar, the mean over queries.
        top1: scalar, the share of queries whose own key is the nearest of the batch's keys.
    Source: van den Oord et al. 2018, arXiv:1807.03748, eq. 4; the queue as in He et al. 2019 (MoCo), arXiv:1911.05722.
    """
    candidates = functional.normalize(torch.cat([keys, queue]).float(), dim=1)
    logits = functional.normalize(queries.float(), dim=1) @ candidates.T / temperature
    top1 = (logits[:, : len(keys)].argmax(dim=1) == targets).float().mean()
    return functional.cross_entropy(logits, targets), top1


def relational(embedded: Tensor, fields: Tensor, counts: Integers) -> Tensor:
    """Computes how far cosine similarities among a grid's objects differ from those of their token fields.

    Args:
        embedded: (M, H) embeddings of all objects.
        fields: (M, OBJECT_FIELDS) their tokens.
        counts: (G,) objects of each grid, grid after grid.
    Returns:
        The mean squared difference over all pairs of different objects of one grid, of all processes; 0 if there are
        no such pairs.
    Source: Park et al. 2019, Relational knowledge distillation, arXiv:1904.05068, with cosines for distances.
    """
    host_positions, host_sequences = plan_rows(counts)
    pairs = _pair_positions(host_positions, counts, host_sequences.shape[1])
    positions, sequences, pair_positions = upload([host_positions, host_sequences, pairs], fields.device)
    rows = PackedRows(positions, sequences)
    gaps = _cosines(embedded, rows) - _cosines(fields, rows)
    return global_mean(gaps.flatten().index_select(0, pair_positions).square())


def _pair_positions(positions: Integers, counts: Integers, row_length: int) -> Integers:
    """Returns the places of all pairs of two objects of one grid among the R L L pairs of places in rows, ascending.

    Args:
        positions: (M,) place of each object among the R L places.
        counts: objects of each grid.
        row_length: L.
    """
    ends = np.repeat(counts.cumsum(), counts)
    later = ends - np.arange(len(ends)) - 1  # objects of the same grid that follow
    first = np.repeat(np.arange(len(ends)), later)
    step = np.arange(len(first)) - np.repeat(later.cumsum() - later, later)
    places: Integers = positions[first] * row_length + positions[first] % row_length + 1 + step
    return places


def _cosines(vectors: Tensor, rows: PackedRows) -> Tensor:
    """Returns the (R, L, L) cosines of the vectors of each row."""
    unpacked = rows.unpack(functional.normalize(vectors.float(), dim=1))
    return unpacked @ unpacked.mT


def invariance(latents: Tensor, augmented: Tensor) -> Tensor:
    """Returns the mean cosine distance between latents of grids and of their augmentations, both (B, D)."""
    return cosine_distance(latents.float(), augmented.float()).mean()
