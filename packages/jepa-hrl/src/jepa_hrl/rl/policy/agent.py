"""A policy with all that it thinks with: the program-conditioned JEPA, its lookahead, and the grids come by."""

from pathlib import Path

import torch

from arc_core.checkpoint import Checkpoint
from arc_core.config import build_config, config_to_dict
from arc_core.errors import InputError
from arc_core.randomness import seed_for
from jepa_hrl.rl.config import PolicyConfig, ReasonerConfig
from jepa_hrl.rl.environment.transition_cache import TransitionCache
from jepa_hrl.rl.policy.actor_critic import OneStepLookahead, Policy
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa, restore_program_jepa


class Agent:
    """Policy, cache and lookahead on one device."""

    def __init__(
        self, jepa: LoadedProgramJepa, config: PolicyConfig, seed: int, options: tuple[tuple[int, ...], ...] = (),
        undo: bool = False,
    ) -> None:  # fmt: skip
        """An untrained policy.

        Args:
            options: sequences of actions that may be chosen as one.
            undo: whether the last action may be taken back.
        """
        self.jepa, self.options, self.undo = jepa, options, undo
        self.cache = TransitionCache(jepa.model, jepa.actions, jepa.config.object_encoder, jepa.device)
        choices = len(jepa.actions) + len(options)
        vectors = torch.cat([self.cache.action_vectors, *(jepa.model.program_vector(jepa.actions, o) for o in options)])
        self.lookahead = OneStepLookahead(jepa.model, vectors, jepa.actions.recolor) if config.foresight else None
        torch.manual_seed(seed_for(seed, "policy weights", 0))
        self.policy = Policy(self.cache.latent_dim, choices, config.hidden_dim, config.foresight, undo, config.dropout)
        self.policy.to(jepa.device)

    def extras(self) -> dict[str, object]:
        """What a checkpoint needs beside the policy to be used alone: the JEPA."""
        return {
            "program_jepa": str(self.jepa.file), "actions": self.jepa.actions.names,
            "jepa_model": dict(self.jepa.model.state_dict()), "jepa_config": config_to_dict(self.jepa.config),
            "options": [list(option) for option in self.options],
        }  # fmt: skip

    def load_policy(self, checkpoint: Checkpoint) -> None:
        """Takes over a policy; one without options leaves those of this agent as unlikely as anything unknown.

        Raises:
            InputError: it is of another size, or thinks in another JEPA's latents.
        """
        if not uses_same_world_model(checkpoint, self.jepa):
            raise InputError("the policy to begin with must have been trained with the same program-conditioned JEPA")
        try:
            weights = policy_weights(checkpoint)
            if self.options and not checkpoint.extras.get("options"):
                weights = self._widen_for_options(weights)
            self.policy.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(f"the policy to begin with must be of the same size: {reason}") from None

    def _widen_for_options(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A policy's weights with rows and columns of zeros for this agent's options, after those of actions."""
        more, actions = len(self.options), len(self.jepa.actions)
        for name in ("actor.weight", "actor.bias"):
            known = weights[name]
            weights[name] = torch.cat([known[:actions], known.new_zeros(more, *known.shape[1:]), known[actions:]])
        if self.lookahead is not None:
            seen = weights["trunk.0.weight"]
            weights["trunk.0.weight"] = torch.cat([seen, seen.new_zeros(len(seen), more)], dim=1)
        return weights


def policy_weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """A policy's weights as they are to be used: averaged where they were averaged."""
    return {**checkpoint.model, **checkpoint.ema}


def uses_same_world_model(checkpoint: Checkpoint, jepa: LoadedProgramJepa) -> bool:
    """Whether a policy was trained with this very JEPA."""
    theirs, ours = checkpoint.extras.get("jepa_model"), jepa.model.state_dict()
    return isinstance(theirs, dict) and all(
        name in theirs and torch.equal(theirs[name].to(value.device), value) for name, value in ours.items()
    )


def load_agent(checkpoint: Checkpoint, file: Path, device: torch.device) -> tuple[Agent, ReasonerConfig]:
    """The trained agent of a checkpoint, which holds its JEPA."""
    config, _ = build_config(ReasonerConfig, checkpoint.config, str(file))
    extras = checkpoint.extras
    stored, weights = extras["jepa_config"], extras["jepa_model"]
    assert isinstance(stored, dict) and isinstance(weights, dict)
    jepa = restore_program_jepa(file, stored, weights, (), device)
    options = extras.get("options", [])
    assert isinstance(options, list)
    agent = Agent(jepa, config.policy, 0, tuple(map(tuple, options)), config.env.undo)
    agent.policy.load_state_dict(policy_weights(checkpoint))
    return agent, config
