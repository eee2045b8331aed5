"""Sketched isotropic Gaussian regularisation: random one-dimensional projections of latents tested against N(0, 1).

B vectors, D channels, S slices, Q nodes of the integral.
"""

from typing import Any, Literal

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torch.nn import functional

_UPPER_LIMIT = 3.0  # of the integral, which symmetry doubles
# Projections of vectors computed at once; memory is this times Q: what a CPU's cache holds, what keeps a GPU busy.
_CHUNK_ON_CPU, _CHUNK_ELSEWHERE = 2**14, 2**20


def draw_slices(channels: int, slices: int, rng: np.random.Generator) -> Tensor:
    """Draws random unit directions.

    Args:
        channels: D.
        slices: S.
        rng: what they are drawn with.
    Returns:
        (D, S) float32, of unit norm over D.
    """
    directions = torch.from_numpy(rng.standard_normal((channels, slices), dtype=np.float32))
    return functional.normalize(directions, dim=0)


def quadrature_rule(points: int, integration: Literal["trapezoid", "gauss_legendre"]) -> tuple[Tensor, Tensor]:
    """Returns (Q,) nodes in 0..3, and (Q,) weights that give twice the integral from 0 to 3."""
    if integration == "trapezoid":
        nodes = np.linspace(0.0, _UPPER_LIMIT, points)
        weights = np.full(points, 2 * _UPPER_LIMIT / (points - 1))
        weights[[0, -1]] /= 2
    else:
        nodes, weights = np.polynomial.legendre.leggauss(points)
        nodes, weights = (nodes + 1) * _UPPER_LIMIT / 2, weights * _UPPER_LIMIT
    return torch.from_numpy(nodes).float(), torch.from_numpy(weights).float()


class _EppsPulley(torch.autograd.Function):
    """The Epps-Pulley statistic with its gradient in closed form, computed together in chunks of slices.

    Automatic differentiation would keep every angle's sine and cosine, B x S x Q of them, for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, slices: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        gauss = torch.exp(-nodes.square() / 2)[:, None]
        weights = weights[:, None] * gauss
        # The mean over this process's vectors alone: data-parallel training averages over processes.
        slope = 2 * weights * nodes[:, None] / len(vectors)
        scale = len(vectors) * world / slices.shape[1]
        total, gradient = vectors.new_zeros(()), torch.zeros_like(vectors)
        chunk_size = _CHUNK_ON_CPU if vectors.device.type == "cpu" else _CHUNK_ELSEWHERE
        for chunk in torch.split(slices, max(1, chunk_size // len(vectors)), dim=1):
            angles = (vectors @ chunk) * nodes[:, None, None]  # (Q, B, slices): nodes last would be slow to sum over
            cosines, sines = angles.cos(), angles.sin_()
            means = torch.stack([cosines.mean(dim=1), sines.mean(dim=1)])
            if world > 1:
                torch.distributed.all_reduce(means)
                means /= world
            real, imaginary = means[0] - gauss, means[1]
            total += ((real.square() + imaginary.square()) * weights).sum()
            if ctx.needs_input_grad[0]:
                change = cosines.mul_((imaginary * slope)[:, None]).addcmul_(sines, (real * slope)[:, None], value=-1)
                gradient.addmm_(change.sum(dim=0), chunk.T)
        ctx.save_for_backward(gradient * scale)
        return total * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradients[0] * gradient, None, None, None


def epps_pulley(vectors: Tensor, slices: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
    """Computes the mean over slices of B times the integral of |phi(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt.

    phi is the empirical characteristic function of the vectors' projections onto a slice. Over several processes B
    counts all their vectors and phi is the mean over them, taken before the difference.

    Args:
        vectors: (B, D), as many in each process.
        slices: (D, S) unit directions, the same in each process.
        nodes: (Q,) of the integral, see `quadrature_rule`.
        weights: (Q,) of the nodes.
    Returns:
        Scalar, the smaller the nearer the projections are to N(0, 1).
    Source: Epps and Pulley 1983; Balestriero and LeCun 2025, LeJEPA (arXiv:2511.08544), section 4.
    """
    statistic: Tensor = _EppsPulley.apply(vectors.float(), slices, nodes, weights)
    return statistic
