"""What an agent thinks of what it sees. N episodes, K demonstrations, D latent channels, A actions, C choices."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from jepa_hrl.jepa.losses.similarity import cosine_distance
from jepa_hrl.world_model.model import ProgramJepa, normalize_latents

_FAR = 2.0  # the largest distance
_AT_ONCE = 4096  # actions of episodes; more only fill the cache
_NEAREST = 0.02  # below which one distance is as good as another


class Batch(NamedTuple):
    """Observations.

    Attributes:
        current, goal: (N, K, D) latents.
        step: (N, 1) share of the steps taken.
        mask: (N, C) bool, what may be done: A actions, to take back the last one where that may be, and to stop.
        lookahead_scores: (N, A) how near the goal each action is foreseen to lead, see `OneStepLookahead`.
    """

    current: Tensor
    goal: Tensor
    step: Tensor
    mask: Tensor
    lookahead_scores: Tensor

    def select(self, rows: Tensor) -> "Batch":
        """Some of them."""
        return Batch(*(part[rows] for part in self))

    @staticmethod
    def concatenate(batches: "Sequence[Batch]") -> "Batch":
        """The observations of several, one after another."""
        return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


class OneStepLookahead(nn.Module):
    """How near the goal the model foresees each possible action to lead."""

    def __init__(self, model: ProgramJepa, vectors: Tensor, recolor: int | None) -> None:
        """Takes a trained model, whose weights are left as they are.

        Args:
            vectors: (A, hidden) of the actions.
            recolor: the action that gives the goal wherever it is possible.
        """
        super().__init__()
        self._recolor = recolor
        self.transition = model.transition
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", model.transition.scale(vectors).detach())
        self.register_buffer("shift", model.transition.shift(vectors).detach())

    @torch.no_grad()
    def forward(self, current: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        """(N, A) minus the logarithm of the mean distance; that of the largest where an action is not possible."""
        distances = current.new_full((len(current), len(self.scale)), _FAR)
        rows, actions = torch.nonzero(mask[:, : len(self.scale)], as_tuple=True)
        read = self.transition.of_latent(current)
        for first in range(0, len(rows), _AT_ONCE):
            some, what = rows[first : first + _AT_ONCE], actions[first : first + _AT_ONCE]
            change = self.transition.predict_change(read[some], self.scale[what][:, None], self.shift[what][:, None])
            distances[some, what] = cosine_distance(current[some] + change, goal[some]).mean(dim=1)
        if self._recolor is not None:
            possible = mask[:, self._recolor]
            distances[:, self._recolor] = torch.where(possible, 0.0, distances[:, self._recolor])
        return -(distances + _NEAREST).log()


class Policy(nn.Module):
    """Demonstrations compared one by one, pooled whatever their order, to a distribution over actions and a value.

    It begins, and is left, in evaluation mode: dropout would change probabilities between gathering and learning.
    """

    def __init__(
        self, latent: int, actions: int, hidden: int, lookahead: bool, undo: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self._dropout = dropout
        self._others = 1 + undo  # choices that are no actions
        self._foresight = lookahead
        self.encoder = nn.Sequential(
            nn.Linear(4 * latent, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )  # fmt: skip
        seen = actions if lookahead else 0
        self.trunk = nn.Sequential(nn.Linear(2 * hidden + 1 + seen, hidden), nn.GELU(), nn.LayerNorm(hidden))
        self.actor = nn.Linear(hidden, actions + self._others)
        self.critic = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1))
        self.lookahead_scale = nn.Parameter(torch.zeros(()))  # in lookahead, whatever the action
        for head, gain in ((self.actor, 0.01), (self.critic[-1], 1.0)):
            assert isinstance(head, nn.Linear)
            nn.init.orthogonal_(head.weight, gain)
            nn.init.zeros_(head.bias)
        self.eval()

    def features(self, batch: Batch) -> Tensor:
        """(N, H) what both heads read."""
        current, goal = normalize_latents(batch.current), normalize_latents(batch.goal)
        seen = torch.cat([current, goal, goal - current, current * goal], dim=-1)
        pairs = self.encoder(self._apply_dropout(seen, self._dropout / 2))  # all else is read off these
        parts = [pairs.mean(dim=1), pairs.amax(dim=1), batch.step]
        if self._foresight:
            parts.append(batch.lookahead_scores)
        thought: Tensor = self.trunk(self._apply_dropout(torch.cat(parts, dim=1), self._dropout))
        return self._apply_dropout(thought, self._dropout)

    def _apply_dropout(self, values: Tensor, share: float) -> Tensor:
        return functional.dropout(values, share, self.training)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(N, C) log-probabilities, minus infinity where an action is not possible, and (N,) values."""
        thought = self.features(batch)
        logits = self.actor(thought)
        if self._foresight:
            logits = logits + functional.pad(self.lookahead_scale * batch.lookahead_scores, (0, self._others))
        logits = logits.masked_fill(~batch.mask, -torch.inf)
        return logits.log_softmax(dim=1), self.critic(thought)[:, 0]


def entropy(log_probabilities: Tensor) -> Tensor:
    """(N,) nats of (N, C) distributions, actions of no probability left out."""
    finite = log_probabilities.masked_fill(log_probabilities == -torch.inf, 0.0)
    return -(finite.exp() * finite * (log_probabilities > -torch.inf)).sum(dim=1)
