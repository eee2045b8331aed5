"""Advantages and losses of proximal policy optimisation, and of REINFORCE. T steps, N episodes side by side."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jepa_hrl.rl.config import TrainerConfig


def compute_gae(
    rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, ended: Tensor, gamma: float, decay: float,
    durations: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Generalised advantage estimates and what values should be, both (T, N), not normalised.

    Args:
        rewards: (T, N) received for the action of step t.
        values: (T, N) of the observations that the actions were chosen on.
        next_values: (T, N) of the observations that the actions led to: for an episode's last step that of its last
            observation, not of the next episode's first.
        terminated: (T, N) bool; what follows is worth nothing.
        ended: (T, N) bool, terminated or truncated; after a truncation the next value still counts.
        gamma: discount.
        decay: lambda; 1 gives whole returns, 0 one step's surprise.
        durations: (T, N) actions that each choice took, so that what follows is discounted as often; 1 by default.
    Source: Schulman et al. 2016, arXiv:1506.02438, eq. 16; durations as in Sutton, Precup and Singh 1999.
    """
    discounts = torch.full_like(rewards, gamma) if durations is None else gamma ** durations.to(rewards.dtype)
    td_errors = rewards + discounts * next_values * ~terminated - values
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[0])
    for step in range(len(rewards) - 1, -1, -1):
        following = td_errors[step] + discounts[step] * decay * following * ~ended[step]
        advantages[step] = following
    return advantages, advantages + values


@dataclass(frozen=True)
class Losses:
    """Parts of a minibatch's loss, one number a step, to be averaged: (n,) each.

    Attributes:
        policy, value: as they are minimised, before weights.
        clipped: whether the ratio was at its limit.
        kl: estimate of how far the policy is from the one that acted, r - 1 - log r.
    """

    policy: Tensor
    value: Tensor
    clipped: Tensor
    kl: Tensor


def policy_losses(
    config: TrainerConfig, log_probability: Tensor, acted: Tensor, advantage: Tensor, value: Tensor, valued: Tensor,
    wanted: Tensor,
) -> Losses:  # fmt: skip
    """Losses of steps, (n,) each.

    Args:
        log_probability: of the actions taken, now.
        acted: the same when they were taken.
        advantage: normalised.
        value, valued: of the observations, now and then.
        wanted: returns.
    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7; values clipped alike as an option.
    """
    difference = log_probability - acted
    ratio = difference.exp()
    if config.algorithm == "reinforce":
        policy, clipped = -log_probability * advantage, torch.zeros_like(ratio)
    else:
        limited = ratio.clamp(1 - config.clip, 1 + config.clip)
        policy = -torch.minimum(ratio * advantage, limited * advantage)
        clipped = ((ratio - 1).abs() > config.clip).float()
    error = (value - wanted).square()
    if config.clip_values:
        near = valued + (value - valued).clamp(-config.clip, config.clip)
        error = torch.maximum(error, (near - wanted).square())
    return Losses(policy, 0.5 * error, clipped, (ratio - 1 - difference).detach())
