"""Measures of collapse: whether latents fill their space, and what to change if not. B vectors, D channels."""

from collections.abc import Mapping

import torch
from torch import Tensor

from jepa_hrl.jepa.config import JepaConfig

ISOTROPY_FLOOR, USAGE_FLOOR = 0.3, 0.2  # values below which the training guide speaks of collapse


def isotropy(vectors: Tensor) -> float:
    """Computes exp(entropy of the covariance's normalised eigenvalues) / D.

    It is 1 for equal variance in all directions, and 1 / D for vectors on a line.

    Args:
        vectors: (B, D), B at least 2.
    Source: the effective rank of Roy and Vetterli 2007, over D.
    """
    centered = vectors.double() - vectors.double().mean(dim=0)
    values = torch.linalg.svdvals(centered).square()
    total = values.sum()
    if total <= 0:
        return 1.0 / vectors.shape[1]
    shares = values / total
    shares = shares[shares > 0]
    return float(torch.exp(-(shares * shares.log()).sum()) / vectors.shape[1])


def latent_statistics(vectors: Tensor) -> dict[str, float]:
    """Returns the isotropy, the mean norm and the mean variance of a channel of (B, D) vectors."""
    return {
        "isotropy": isotropy(vectors),
        "norm": float(vectors.norm(dim=1).mean()),
        "variance": float(vectors.var(dim=0).mean()),
    }


def collapse_advice(config: JepaConfig, metrics: Mapping[str, float]) -> str:
    """Says what to change when embeddings collapse; empty if they do not.

    Args:
        config: of the run; remedies that it already has are not named.
        metrics: "isotropy" and, with a quantiser, "usage_ratio".
    Source: the training guide, "Embedding Collapse".
    """
    signs = []
    if metrics["isotropy"] < ISOTROPY_FLOOR:
        signs.append(f"isotropy is {metrics['isotropy']:.2f}, below {ISOTROPY_FLOOR}")
    if metrics.get("usage_ratio", 1.0) < USAGE_FLOOR:
        signs.append(f"{metrics['usage_ratio']:.0%} of the codes are used, below {USAGE_FLOOR:.0%}")
    if not signs:
        return ""
    remedies = []
    if config.sigreg.weight < 0.1:
        remedies.append(f"sigreg.weight 0.1 (it is {config.sigreg.weight:g})")
    if config.loss.temperature > 0.1:
        remedies.append(f"loss.temperature 0.05 (it is {config.loss.temperature:g})")
    if config.object_encoder.vq_enabled and not config.object_encoder.vq_refresh_enabled:
        remedies.append("object_encoder.vq_refresh_enabled true")
    if config.loss.queue_size < 8192:
        remedies.append(f"loss.queue_size 8192 (it is {config.loss.queue_size})")
    remedies = remedies or ["a lower optimizer.lr, more tasks"]
    return f"embeddings collapse: {' and '.join(signs)}. Try {', then '.join(remedies)}"
