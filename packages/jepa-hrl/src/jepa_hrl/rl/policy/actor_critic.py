"""The actor-critic. Shapes: N episodes, K demonstrations, D latent channels, A actions, C choices, H channels."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from jepa_hrl.jepa.losses.similarity import cosine_distance
from jepa_hrl.world_model.model import ProgramJepa, normalize_latents

_MAX_DISTANCE = 2.0
_MIN_DISTANCE = 0.02  # added before the logarithm; distances far below it count as equal
_ACTIONS_AT_ONCE = 4096  # more only fill the processor's cache
_OLD_WEIGHT_NAMES = {
    "compare": "encoder", "decide": "trunk", "act": "actor", "judge": "critic", "trust": "lookahead_scale",
}  # fmt: skip


class Batch(NamedTuple):
    """Observations of N episodes as tensors.

    Attributes:
        current, goal: (N, K, D) latents.
        step: (N, 1) share of the steps taken.
        mask: (N, C) bool, allowed choices: the A actions (options among them), undo where there is one, and stopping.
        lookahead_scores: (N, A) output of `OneStepLookahead`; (N, 0) without look-ahead.
    """

    current: Tensor
    goal: Tensor
    step: Tensor
    mask: Tensor
    lookahead_scores: Tensor

    def select(self, rows: Tensor) -> "Batch":
        """Returns the observations of some rows."""
        return Batch(*(part[rows] for part in self))

    @staticmethod
    def concatenate(batches: "Sequence[Batch]") -> "Batch":
        """Returns the observations of several batches, one after another."""
        return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


class OneStepLookahead(nn.Module):
    """Scores every allowed action by how near the goal the world model predicts it to lead."""

    def __init__(self, model: ProgramJepa, vectors: Tensor, recolor: int | None) -> None:
        """Uses a trained world model, whose weights stay as they are.

        Args:
            model: world model, whose transition predicts latents.
            vectors: (A, hidden) the model's encoding of each action or option.
            recolor: index of the action that gives the goal wherever it is allowed; None if there is none.
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
        """Returns (N, A) scores: minus the logarithm of the predicted latents' mean cosine distance to the goals.

        Args:
            current, goal: (N, K, D) latents.
            mask: (N, C) bool; an action that is not allowed scores as if it led to the largest distance.
        """
        distances = current.new_full((len(current), len(self.scale)), _MAX_DISTANCE)
        rows, actions = torch.nonzero(mask[:, : len(self.scale)], as_tuple=True)
        read = self.transition.of_latent(current)
        for first in range(0, len(rows), _ACTIONS_AT_ONCE):
            row, action = rows[first : first + _ACTIONS_AT_ONCE], actions[first : first + _ACTIONS_AT_ONCE]
            change = self.transition.predict_change(read[row], self.scale[action][:, None], self.shift[action][:, None])
            distances[row, action] = cosine_distance(current[row] + change, goal[row]).mean(dim=1)
        if self._recolor is not None:
            allowed = mask[:, self._recolor]
            distances[:, self._recolor] = torch.where(allowed, 0.0, distances[:, self._recolor])
        return -(distances + _MIN_DISTANCE).log()


class Policy(nn.Module):
    """An actor-critic over sets of demonstrations.

    An encoder compares each demonstration's latent with its goal; mean and maximum over the demonstrations make the
    result independent of their order. A trunk feeds two heads: the actor, with a distribution over choices, and the
    critic, with the value.

    The network is in evaluation mode except during imitation: dropout would change the probabilities between rollout
    and update.
    """

    def __init__(
        self, latent: int, actions: int, hidden: int, lookahead: bool, undo: bool = False, dropout: float = 0.0
    ) -> None:
        """Initialises the weights from torch's global generator.

        Args:
            latent: D.
            actions: A, actions and options.
            hidden: H.
            lookahead: whether the trunk and the actor are given the scores of `OneStepLookahead`.
            undo: whether undoing is a choice.
            dropout: rate in the trunk, half as much in the encoder; 0..1.
        """
        super().__init__()
        self._dropout_rate = dropout
        self._non_actions = 1 + undo  # choices that are no actions: stopping, undoing
        self._lookahead = lookahead
        self.encoder = nn.Sequential(
            nn.Linear(4 * latent, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )  # fmt: skip
        scores = actions if lookahead else 0
        self.trunk = nn.Sequential(nn.Linear(2 * hidden + 1 + scores, hidden), nn.GELU(), nn.LayerNorm(hidden))
        self.actor = nn.Linear(hidden, actions + self._non_actions)
        self.critic = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1))
        self.lookahead_scale = nn.Parameter(torch.zeros(()))  # of the look-ahead scores in the actor's logits
        for head, gain in ((self.actor, 0.01), (self.critic[-1], 1.0)):
            assert isinstance(head, nn.Linear)
            nn.init.orthogonal_(head.weight, gain)
            nn.init.zeros_(head.bias)
        self.eval()

    def features(self, batch: Batch) -> Tensor:
        """Returns the (N, H) features that both heads read."""
        current, goal = normalize_latents(batch.current), normalize_latents(batch.goal)
        compared = torch.cat([current, goal, goal - current, current * goal], dim=-1)
        pairs = self.encoder(self._dropout(compared, self._dropout_rate / 2))  # half: all else depends on these
        parts = [pairs.mean(dim=1), pairs.amax(dim=1), batch.step]
        if self._lookahead:
            parts.append(batch.lookahead_scores)
        features: Tensor = self.trunk(self._dropout(torch.cat(parts, dim=1), self._dropout_rate))
        return self._dropout(features, self._dropout_rate)

    def _dropout(self, values: Tensor, rate: float) -> Tensor:
        return functional.dropout(values, rate, self.training)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the choices' log-probabilities and the values.

        Returns:
            log_probabilities: (N, C), minus infinity where a choice is not allowed.
            values: (N,).
        """
        features = self.features(batch)
        logits = self.actor(features)
        if self._lookahead:
            logits = logits + functional.pad(self.lookahead_scale * batch.lookahead_scores, (0, self._non_actions))
        logits = logits.masked_fill(~batch.mask, -torch.inf)
        return logits.log_softmax(dim=1), self.critic(features)[:, 0]


def update_weight_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a policy's weights under the names of today; older checkpoints have other names."""
    updated = {}
    for name, value in weights.items():
        part, dot, rest = name.partition(".")
        updated[_OLD_WEIGHT_NAMES.get(part, part) + dot + rest] = value
    return updated


def entropy(log_probabilities: Tensor) -> Tensor:
    """Returns the (N,) entropy, in nats, of (N, C) distributions; choices of probability 0 are left out."""
    finite = log_probabilities.masked_fill(log_probabilities == -torch.inf, 0.0)
    return -(finite.exp() * finite * (log_probabilities > -torch.inf)).sum(dim=1)
