"""An agent: a policy with the world model that it acts by and the cache of transitions."""

from pathlib import Path

import torch

from arc_core.checkpoint import Checkpoint
from arc_core.config import build_config, config_to_dict
from arc_core.errors import InputError
from arc_core.randomness import seed_for
from jepa_hrl.rl.config import PolicyConfig, ReasonerConfig
from jepa_hrl.rl.environment.transition_cache import TransitionCache
from jepa_hrl.rl.policy.actor_critic import OneStepLookahead, Policy, update_weight_names
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa, restore_program_jepa


class Agent:
    """A policy, its world model and what it needs to act, on one device.

    Attributes:
        jepa: program-conditioned JEPA, the world model.
        options: sequences of action indices that may be chosen as one.
        undo: whether the last action may be undone.
        cache: transitions and latents of grids.
        lookahead: scores of actions for the policy; None with `policy.foresight: false`.
        policy: actor-critic.
    """

    def __init__(
        self, jepa: LoadedProgramJepa, config: PolicyConfig, seed: int, options: tuple[tuple[int, ...], ...] = (),
        undo: bool = False,
    ) -> None:  # fmt: skip
        """Makes an agent with an untrained policy.

        Args:
            jepa: world model.
            config: size of the policy.
            seed: of the policy's weights.
            options: sequences of action indices that may be chosen as one.
            undo: whether the last action may be undone.
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
        """Returns what a checkpoint stores beside the policy, so that it can be used alone: the world model."""
        return {
            "program_jepa": str(self.jepa.file), "actions": self.jepa.actions.names,
            "jepa_model": dict(self.jepa.model.state_dict()), "jepa_config": config_to_dict(self.jepa.config),
            "options": [list(option) for option in self.options],
        }  # fmt: skip

    def load_policy(self, checkpoint: Checkpoint) -> None:
        """Loads the policy of a checkpoint to start training from.

        If only this agent has options, the new rows and columns of the weights are 0: the options are as unlikely as
        an action of which the policy knows nothing.

        Raises:
            InputError: the policy is of another size, or was trained with another world model.
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
        """Returns a policy's weights with rows and columns of zeros for this agent's options, after the actions'."""
        more, actions = len(self.options), len(self.jepa.actions)
        for name in ("actor.weight", "actor.bias"):
            old = weights[name]
            weights[name] = torch.cat([old[:actions], old.new_zeros(more, *old.shape[1:]), old[actions:]])
        if self.lookahead is not None:
            old = weights["trunk.0.weight"]
            weights["trunk.0.weight"] = torch.cat([old, old.new_zeros(len(old), more)], dim=1)
        return weights


def policy_weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Returns a policy's weights for use: the averaged ones where the checkpoint has them, else the last ones."""
    return update_weight_names({**checkpoint.model, **checkpoint.ema})


def uses_same_world_model(checkpoint: Checkpoint, jepa: LoadedProgramJepa) -> bool:
    """Whether a policy was trained with exactly this world model."""
    theirs, ours = checkpoint.extras.get("jepa_model"), jepa.model.state_dict()
    return isinstance(theirs, dict) and all(
        name in theirs and torch.equal(theirs[name].to(value.device), value) for name, value in ours.items()
    )


def load_agent(checkpoint: Checkpoint, file: Path, device: torch.device) -> tuple[Agent, ReasonerConfig]:
    """Loads the trained agent of a checkpoint, which holds its world model too.

    Args:
        checkpoint: content of a checkpoint of train-active-reasoner or pretrain-bc.
        file: where it came from, for messages.
        device: where the agent shall be.
    Returns:
        agent, config: the latter is that of its training.
    """
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
