"""Adaptive computation time (ACT): how many segments a sequence gets, and the Q-values that decide it.

B batch, L cells, T tokens. Source: Wang et al. 2025, arXiv:2506.21734, section "Adaptive computational time".
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hrm.config import ModelConfig
from hrm.model.reasoner import LatentState, Reasoner, SegmentOutput


class Batch(NamedTuple):
    """Puzzles as the model reads them.

    Attributes:
        tokens: (B, L) uint8.
        labels: (B, L) int64, IGNORED past the answer's END ring.
        identities: (B,) int64 rows of the puzzle embedding.
        positions: (B or 1, T) int64 positions in the sequence of the full canvas.
    """

    tokens: Tensor
    labels: Tensor
    identities: Tensor
    positions: Tensor


class ExplorationNoise(NamedTuple):
    """Random numbers of a training segment, which make some sequences reason longer than their Q-values ask for.

    Attributes:
        uniform: (B,) float in 0..1; a sequence below `halt_exploration_prob` explores.
        min_segments: (B,) int64 in 2..halt_max_steps, before which an exploring sequence may not halt.
    """

    uniform: Tensor
    min_segments: Tensor


def reset_halted(model: Reasoner, state: LatentState, halted: Tensor) -> LatentState:
    """Returns the latent states with those of halted sequences put back to the initial state.

    Args:
        model: gives the initial state.
        state: (B, T, D) each.
        halted: (B,) bool, sequences that a new example has replaced.
    """
    initial = model.initial_state(len(halted), state.z_H.shape[1] - model.prefix_tokens, state.z_H.dtype)
    is_new = halted[:, None, None]
    return LatentState(torch.where(is_new, initial.z_H, state.z_H), torch.where(is_new, initial.z_L, state.z_L))


def prefers_halt(config: ModelConfig, output: SegmentOutput) -> Tensor:
    """Returns (B,) bool, whether the Q-values favour halting: HRM compares q_halt with q_continue, TRM with 0."""
    return output.q_halt > 0 if config.no_ACT_continue else output.q_halt > output.q_continue


def should_halt(config: ModelConfig, output: SegmentOutput, steps: Tensor, noise: ExplorationNoise) -> Tensor:
    """Decides which sequences halt after a training segment.

    Args:
        config: gives the longest reasoning and the probability of exploration.
        output: of the segment.
        steps: (B,) int64, segments that each sequence has had, this one included.
        noise: see `ExplorationNoise`.
    Returns:
        (B,) bool.
    """
    is_last = steps >= config.halt_max_steps
    if config.halt_max_steps == 1:
        return is_last
    min_segments = noise.min_segments * (noise.uniform < config.halt_exploration_prob)
    return is_last | (prefers_halt(config, output) & (steps >= min_segments))


@torch.no_grad()
def q_continue_target(
    model: Reasoner, state: LatentState, batch: Batch, puzzle_embeddings: Tensor | None, steps: Tensor
) -> Tensor | None:
    """Computes the target of q_continue: the next segment's best value, or its value of halting if it is the last.

    It costs a second forward pass. Source: HRM's Q-learning, without replay memory or target network.

    Args:
        model: runs the next segment.
        state: latent states after the present segment.
        batch: the puzzles.
        puzzle_embeddings: (B, E), None where the model has none.
        steps: (B,) int64, segments that each sequence has had.
    Returns:
        (B,) probabilities; None where the model does not learn q_continue.
    """
    config = model.config
    if config.no_ACT_continue or config.halt_max_steps == 1:
        return None
    _, next_output = model(state, batch.tokens, puzzle_embeddings, batch.positions)
    is_last = steps >= config.halt_max_steps
    best = torch.maximum(next_output.q_halt, next_output.q_continue)
    return torch.sigmoid(torch.where(is_last, next_output.q_halt, best))
