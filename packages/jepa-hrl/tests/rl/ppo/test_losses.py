"""Advantages and losses of PPO and REINFORCE, against their definitions."""

import pytest
import torch

from jepa_hrl.rl.config import TrainerConfig
from jepa_hrl.rl.ppo.losses import compute_gae, policy_losses


def test_advantages_equal_their_definition() -> None:
    """Compares to the sum of discounted TD errors, with a termination, a truncation and choices of several steps."""
    generator = torch.Generator().manual_seed(0)
    steps, count, gamma, gae_lambda = 7, 3, 0.9, 0.8
    rewards, values, next_values = (torch.randn(steps, count, generator=generator).double() for _ in range(3))
    terminated = torch.rand(steps, count, generator=generator) < 0.2
    ended = terminated | (torch.rand(steps, count, generator=generator) < 0.2)
    durations = torch.randint(1, 4, (steps, count), generator=generator)
    advantages, returns = compute_gae(rewards, values, next_values, terminated, ended, gamma, gae_lambda, durations)
    for n in range(count):
        for t in range(steps):
            total, weight = 0.0, 1.0
            for s in range(t, steps):
                after = 0.0 if terminated[s, n] else gamma ** int(durations[s, n]) * float(next_values[s, n])
                total += weight * (float(rewards[s, n]) + after - float(values[s, n]))
                weight *= gamma ** int(durations[s, n]) * gae_lambda
                if ended[s, n]:
                    break
            assert float(advantages[t, n]) == pytest.approx(total)
            assert float(returns[t, n]) == pytest.approx(total + float(values[t, n]))


def test_advantages_of_a_constant_reward_have_their_closed_form() -> None:
    """Reward 1, value 0, lambda 1, one episode that ends: the advantage at t is the geometric sum of what is left."""
    steps, gamma = 6, 0.9
    ended = torch.zeros(steps, 1, dtype=torch.bool)
    ended[-1] = True
    nothing = torch.zeros(steps, 1)
    advantages, _ = compute_gae(torch.ones(steps, 1), nothing, nothing, ended, ended, gamma, 1.0)
    expected = [(1 - gamma ** (steps - t)) / (1 - gamma) for t in range(steps)]
    assert advantages[:, 0].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_truncated_episode_counts_the_value_of_what_would_have_followed() -> None:
    rewards, values = torch.zeros(1, 2), torch.zeros(1, 2)
    following = torch.full((1, 2), 5.0)
    terminated = torch.tensor([[True, False]])
    advantages, _ = compute_gae(rewards, values, following, terminated, torch.ones(1, 2).bool(), 0.9, 0.95)
    assert advantages.tolist() == [[0.0, pytest.approx(4.5)]]


def test_policy_losses_are_clipped_as_in_the_paper() -> None:
    config = TrainerConfig(clip=0.2, clip_values=True)
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    values, old_values, returns = torch.full((5,), 1.0), torch.full((5,), 0.5), torch.full((5,), 2.0)
    losses = policy_losses(config, ratio.log(), torch.zeros(5), advantages, values, old_values, returns)
    assert losses.policy.tolist() == pytest.approx([-1.2, 1.5, -0.5, 0.8, -2.2])
    assert losses.clipped.tolist() == [1, 1, 1, 1, 0]
    assert losses.value.tolist() == pytest.approx([0.5 * 1.3**2] * 5)  # the clipped value, 0.7, is the worse one
    assert losses.kl.tolist() == pytest.approx((ratio - 1 - ratio.log()).tolist())
    unclipped = policy_losses(TrainerConfig(), ratio.log(), torch.zeros(5), advantages, values, old_values, returns)
    assert unclipped.value.tolist() == pytest.approx([0.5] * 5)
    reinforce = policy_losses(
        TrainerConfig(algorithm="reinforce"), ratio.log(), torch.zeros(5), advantages, values, old_values, returns
    )
    assert reinforce.policy.tolist() == pytest.approx((-ratio * advantages).tolist())


def test_reinforce_has_the_gradient_of_the_expected_advantage_also_after_the_policy_has_changed() -> None:
    """In expectation over the actions of the policy that acted, against the derivative of sum p A itself."""
    generator = torch.Generator().manual_seed(0)
    old_logits, new_logits, advantages = (torch.randn(4, generator=generator).double() for _ in range(3))
    old_log_prob, zeros = old_logits.log_softmax(dim=0), torch.zeros(4)
    for logits in (old_logits.clone(), new_logits):
        logits.requires_grad_()
        losses = policy_losses(
            TrainerConfig(algorithm="reinforce"),
            logits.log_softmax(dim=0),
            old_log_prob,
            advantages,
            zeros,
            zeros,
            zeros,
        )
        gradient = torch.autograd.grad((old_log_prob.exp() * losses.policy).sum(), logits)[0]
        expected = torch.autograd.grad(-(logits.softmax(dim=0) * advantages).sum(), logits)[0]
        torch.testing.assert_close(gradient, expected)
