"""The entropy and the look-ahead of the policy."""

import numpy as np
import pytest
import torch

from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.environment.episodes import BatchedEpisodes
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.environment.transition_cache import TransitionCache
from jepa_hrl.rl.policy.actor_critic import OneStepLookahead, entropy
from jepa_hrl.rl.policy.evaluation import make_batch
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

GROUNDED = EnvConfig(dynamics="grounded", max_steps=5)


def test_entropy_leaves_out_what_is_not_allowed() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf], [3.0, -torch.inf, -torch.inf]], requires_grad=True)
    entropies = entropy(logits.log_softmax(dim=1))
    assert entropies.tolist() == pytest.approx([np.log(2), 0.0], abs=1e-6)
    torch.autograd.backward(entropies.sum())
    assert logits.grad is not None and torch.isfinite(logits.grad[:, 0]).all()


def test_lookahead_scores_are_of_the_latents_that_the_model_predicts(
    jepa: LoadedProgramJepa, transitions: TransitionCache, problems: list[Problem]
) -> None:
    episodes = BatchedEpisodes(transitions, problems, GROUNDED, 5)
    episodes.reset(range(5), np.arange(5))
    lookahead = OneStepLookahead(jepa.model, transitions.action_vectors, jepa.actions.recolor)
    batch = make_batch(episodes.observation(), lookahead, jepa.device)
    for row in range(5):
        for action in range(len(jepa.actions)):
            if action == jepa.actions.recolor or not batch.mask[row, action]:
                continue
            after = transitions.predict_latents(episodes.latents[row : row + 1], np.array([action]), [None])[0]
            goal = episodes.goal_latents[row]
            cosines = (after * goal).sum(1) / np.linalg.norm(after, axis=1) / np.linalg.norm(goal, axis=1)
            expected = -np.log((1 - cosines).mean() + 0.02)
            assert float(batch.lookahead_scores[row, action]) == pytest.approx(expected, abs=1e-4)
