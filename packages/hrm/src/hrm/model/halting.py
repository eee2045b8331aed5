"""Adaptive computation: how many segments a puzzle gets, and the values that decide it.

B batch, L cells, T tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hrm.config import ModelConfig
from hrm.model.reasoner import Answer, Reasoner, State


class Batch(NamedTuple):
    """Puzzles as the model reads them.

    Attributes:
        tokens: (B, L) uint8.
        labels: (B, L) int64, IGNORED past the answer's end ring.
        identities: (B,) int64 rows of the puzzle embedding.
        positions: (B or 1, T) int64.
    """

    tokens: Tensor
    labels: Tensor
    identities: Tensor
    positions: Tensor


class Draws(NamedTuple):
    """Random numbers of a training step, for exploring longer reasoning.

    Attributes:
        explores: (B,) float in 0..1; below the probability, the sequence goes on for at least `least` segments.
        least: (B,) int64, 2..halt_max_steps.
    """

    explores: Tensor
    least: Tensor


def restarted(model: Reasoner, state: State, halted: Tensor) -> State:
    """The state with (B,) bool halted sequences put back to the start."""
    begin = model.start(len(halted), state.high.shape[1] - model.prefix, state.high.dtype)
    again = halted[:, None, None]
    return State(torch.where(again, begin.high, state.high), torch.where(again, begin.low, state.low))


def wants_to_halt(config: ModelConfig, answer: Answer) -> Tensor:
    """(B,) bool: TRM compares the value of halting with 0, HRM with that of going on."""
    return answer.halt > 0 if config.no_ACT_continue else answer.halt > answer.go_on


def halts(config: ModelConfig, answer: Answer, steps: Tensor, draws: Draws) -> Tensor:
    """(B,) bool after a training segment that was number `steps` (from 1) of each sequence."""
    last = steps >= config.halt_max_steps
    if config.halt_max_steps == 1:
        return last
    least = draws.least * (draws.explores < config.halt_exploration_prob)
    return last | (wants_to_halt(config, answer) & (steps >= least))


@torch.no_grad()
def go_on_target(model: Reasoner, state: State, batch: Batch, puzzles: Tensor | None, steps: Tensor) -> Tensor | None:
    """(B,) what going on is worth: the best value of the next segment, or of halting there if it is the last.

    None where the model does not learn it. Source: HRM, eq. 7, Q-learning without replay memory or target network.
    """
    config = model.config
    if config.no_ACT_continue or config.halt_max_steps == 1:
        return None
    _, following = model(state, batch.tokens, puzzles, batch.positions)
    last = steps >= config.halt_max_steps
    return torch.sigmoid(torch.where(last, following.halt, torch.maximum(following.halt, following.go_on)))
