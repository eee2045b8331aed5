"""Contrastive, relational and invariance losses. B pairs, D channels, Q keys in the queue, M objects."""

import torch
from torch import Tensor
from torch.nn import functional

from arc_core.distributed import global_mean
from jepa_hrl.jepa.model.packed_attention import Rows, rows_of


def cosine_distance(latents: Tensor, others: Tensor) -> Tensor:
    """(...,) one minus the cosine of (..., D) latents: 0 where they point the same way, 2 where they are opposite."""
    return 1 - functional.cosine_similarity(latents, others, dim=-1)


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
    return global_mean(gaps.masked_select(pairs).square())


def _cosines(vectors: Tensor, rows: Rows) -> Tensor:
    """(R, L, L) cosines of the vectors of a row."""
    spread = rows.spread(functional.normalize(vectors.float(), dim=1))
    return spread @ spread.mT


def invariance(latents: Tensor, changed: Tensor) -> Tensor:
    """Mean of 1 - cosine between latents of grids and of their changed selves, both (B, D)."""
    return cosine_distance(latents.float(), changed.float()).mean()
