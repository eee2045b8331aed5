"""Advantages and losses of proximal policy optimisation, and of REINFORCE. T steps, N episodes side by side."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jepa_hrl.rl.config import TrainerConfig


def compute_gae(
    rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, ended: Tensor, gamma: float,
    gae_lambda: float, durations: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Computes advantages by generalised advantage estimation (GAE), and the returns as the critic's targets.

    Args:
        rewards: (T, N) received for the action of step t.
        values: (T, N) of the observations that the actions were chosen on.
        next_values: (T, N) of the observations that the actions led to: for an episode's last step that of its last
            observation, not of the next episode's first.
        terminated: (T, N) bool; the value after such a step is 0.
        ended: (T, N) bool, terminated or truncated; after a truncation the next value still counts.
        gamma: discount, 0..1.
        gae_lambda: 0..1; 1 gives Monte Carlo returns, 0 the temporal-difference error of one step.
        durations: (T, N) actions that each choice took, so that what follows is discounted as often; 1 by default.
    Returns:
        advantages, returns: both (T, N), not normalised.
    Source: Schulman et al. 2016, arXiv:1506.02438, eq. 16; durations as in Sutton, Precup and Singh 1999.
    """
    discounts = torch.full_like(rewards, gamma) if durations is None else gamma ** durations.to(rewards.dtype)
    td_errors = rewards + discounts * next_values * ~terminated - values
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[0])
    for step in range(len(rewards) - 1, -1, -1):
        following = td_errors[step] + discounts[step] * gae_lambda * following * ~ended[step]
        advantages[step] = following
    return advantages, advantages + values


@dataclass(frozen=True)
class Losses:
    """The parts of a minibatch's loss, (n,) each, to be averaged.

    Attributes:
        policy, value: as they are minimised, before weights.
        clipped: 1 where the probability ratio was outside the clip range, else 0.
        kl: estimate of the divergence from the policy that acted, r - 1 - log r.
    """

    policy: Tensor
    value: Tensor
    clipped: Tensor
    kl: Tensor


def policy_losses(
    config: TrainerConfig, log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, values: Tensor,
    old_values: Tensor, returns: Tensor,
) -> Losses:  # fmt: skip
    """Computes the losses of n steps.

    Args:
        config: algorithm and clip range.
        log_prob: (n,) log-probabilities of the actions taken, by the policy as it is now.
        old_log_prob: (n,) the same by the policy that acted.
        advantages: (n,) normalised for PPO, as they are for REINFORCE.
        values, old_values: (n,) of the observations, now and when the policy acted.
        returns: (n,) targets of the values.
    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7 (PPO; the values are optionally clipped in the same way) and
        eq. 6 (REINFORCE: the surrogate without a clip, whose gradient at the acting policy is Williams' 1992).
    """
    log_ratio = log_prob - old_log_prob
    ratio = log_ratio.exp()
    if config.algorithm == "reinforce":
        # Where the policy has not changed since it acted, the gradient is that of -log_prob * advantages. Later
        # minibatches meet a policy that has changed. Without the ratio nothing would stop those of negative advantage
        # from pushing log_prob down without end, until only stopping is left.
        policy, clipped = -ratio * advantages, torch.zeros_like(ratio)
    else:
        clipped_ratio = ratio.clamp(1 - config.clip, 1 + config.clip)
        policy = -torch.minimum(ratio * advantages, clipped_ratio * advantages)
        clipped = ((ratio - 1).abs() > config.clip).float()
    error = (values - returns).square()
    if config.clip_values:
        clipped_values = old_values + (values - old_values).clamp(-config.clip, config.clip)
        error = torch.maximum(error, (clipped_values - returns).square())
    return Losses(policy, 0.5 * error, clipped, (ratio - 1 - log_ratio).detach())
