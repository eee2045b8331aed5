"""RLAN, the recursive latent attractor network, assembled from its parts.

B batch, N demonstrations, K clues, S canvas side, D channels, T solver steps, P predicates.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from arc_core.checkpoint import Checkpoint, CheckpointError
from rlan.config import ModelConfig
from rlan.data.queries import Inputs
from rlan.model.context_encoder import Context, ContextEncoder
from rlan.model.counting import LatentCountingRegisters, apply_color_transitions, color_transitions
from rlan.model.extents import NUM_HINTS, extent_hints
from rlan.model.grid_encoder import GridEncoder
from rlan.model.hyperlora import Deltas, HyperLora
from rlan.model.layers import Attention, extent_mask
from rlan.model.predicates import SymbolicPredicateHeads
from rlan.model.recursive_solver import CLASSES, RecursiveSolver, SolverInputs, lora_layer_sizes
from rlan.model.relative_encoding import CHANNELS, MultiScaleRelativeEncoding, mean_over_clues
from rlan.model.saliency import Clues, DynamicSaliencyController
from rlan.model.steering import SteeredAttention


class Outputs(NamedTuple):
    """Outputs of a forward pass.

    Attributes:
        logits: (B, T, S, S, 11) float32, the answer after each solver step: 10 colours and outside.
        clues: spatial anchors of DSC, None if it is switched off.
        predicates: (B, P) in 0..1, None if SPH is switched off.
        context: (B, D) context vector, None if the context is switched off.
        deltas: HyperLoRA's changes of the solver's weights, empty if it is switched off.
    """

    logits: Tensor
    clues: Clues | None
    predicates: Tensor | None
    context: Tensor | None
    deltas: Deltas


class Rlan(nn.Module):
    """The recursive latent attractor network. Parts that are switched off are not built."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.dim = dim
        self.encoder = GridEncoder(dim)
        self.null_token = nn.Parameter(torch.randn(dim) * 0.1)
        self.context = ContextEncoder(config) if config.use_context else None
        self.from_hints = nn.Linear(NUM_HINTS, dim, bias=False) if config.use_context else nn.Identity()
        self.film: nn.Linear | None = None
        self.inject: Attention | None = None
        if config.use_context and config.context_injection == "film":
            self.film = nn.Linear(dim, 2 * dim)
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)
        elif config.use_context:
            self.inject_norm = nn.RMSNorm(dim)
            self.inject = Attention(dim, config.num_heads)
            nn.init.zeros_(self.inject.out.weight)
        self.steering = SteeredAttention(config) if config.use_context and config.use_steering else None
        self.saliency = DynamicSaliencyController(config) if config.use_dsc else None
        self.relative = MultiScaleRelativeEncoding() if config.use_dsc and config.use_msre else None
        self.from_relative = nn.Linear(CHANNELS, dim) if self.relative is not None else None
        self.counting = LatentCountingRegisters(config) if config.use_lcr else None
        self.predicates = SymbolicPredicateHeads(config) if config.use_sph else None
        self.hyperlora = HyperLora(config, lora_layer_sizes(dim)) if config.use_hyperlora else None
        self.solver = RecursiveSolver(config)

    def forward(self, inputs: Inputs, adapt: bool = True) -> Outputs:
        """Answers a batch of queries, each from its own demonstrations.

        Args:
            inputs: the queries.
            adapt: apply HyperLoRA's weight changes; false measures the model without them.
        """
        side = inputs.query.shape[-1]
        answer_mask = extent_mask(inputs.answer_extent, side)
        grid = extent_mask(inputs.query_size, side)
        features = self.encoder(inputs.query, inputs.query_size, answer_mask[..., None].float())
        context: Context | None = None
        vector = features.new_zeros(len(features), self.dim)
        if self.context is not None:
            context = self.context(self.encoder, inputs.demos, inputs.demo_sizes, inputs.demo_mask)
            vector = context.vector
            features = self._inject_context(features, context)
            hints = extent_hints(inputs.demo_sizes, inputs.demo_mask, inputs.query_size, side)
            features = features + self.from_hints(hints.to(features.dtype))
            if self.steering is not None:
                features = features + self.steering(features, vector, inputs.query_size, grid)
        clues = self.saliency(features, vector, grid) if self.saliency is not None else None
        if clues is not None and self.relative is not None and self.from_relative is not None:
            encoding = self.relative(clues.centroids, inputs.query_size, side)
            features = features + self.from_relative(mean_over_clues(encoding, clues.usage).to(features.dtype))
        registers = None
        start = nn.functional.one_hot(inputs.query.long(), CLASSES).float()
        if self.counting is not None:
            transitions = color_transitions(inputs.demos, inputs.demo_mask) if context is not None else None
            if transitions is not None:
                start = apply_color_transitions(start, transitions)
            registers, by_cell = self.counting(inputs.query, features, transitions)
            features = features + by_cell
        predicates = self.predicates(features, vector, grid) if self.predicates is not None else None
        memory, memory_mask = self._build_memory(features, registers, context)
        gate = None if self.predicates is None or predicates is None else self.predicates.gate(predicates)
        deltas = self.hyperlora(vector) if self.hyperlora is not None and adapt else {}
        logits = self.solver(SolverInputs(start, features, answer_mask, memory, memory_mask, gate, deltas))
        return Outputs(logits, clues, predicates, None if context is None else vector, deltas)

    def predict_deltas(self, inputs: Inputs) -> Deltas:
        """Returns HyperLoRA's weight changes for the demonstrations of a batch, without answering it."""
        if self.context is None or self.hyperlora is None:
            return {}
        context = self.context(self.encoder, inputs.demos, inputs.demo_sizes, inputs.demo_mask)
        deltas: Deltas = self.hyperlora(context.vector)
        return deltas

    def _inject_context(self, features: Tensor, context: Context) -> Tensor:
        """Conditions (B, S, S, D) features on the demonstrations, by FiLM or by cross-attention."""
        if self.film is not None:
            scale, shift = self.film(context.vector)[:, None, None].chunk(2, dim=-1)
            modulated: Tensor = features * (1 + scale) + shift
            return modulated
        assert self.inject is not None
        memory = self.inject.keys_and_values(context.tokens)
        read = self.inject(self.inject_norm(features.flatten(1, 2)), memory, context.token_mask)
        conditioned: Tensor = features + read.view_as(features)
        return conditioned

    def _build_memory(
        self, features: Tensor, registers: Tensor | None, context: Context | None
    ) -> tuple[Tensor, Tensor]:
        """Returns the tokens that every solver step attends to, and their mask; the null token is always there."""
        parts = [self.null_token.expand(len(features), 1, -1).to(features.dtype)]
        masks = [torch.ones(len(features), 1, dtype=torch.bool, device=features.device)]
        if registers is not None:
            parts.append(registers)
            masks.append(masks[0].expand(-1, registers.shape[1]))
        if context is not None:
            parts.append(context.tokens)
            masks.append(context.token_mask)
        return torch.cat([part.to(features.dtype) for part in parts], dim=1), torch.cat(masks, dim=1)


_FORMER_NAMES = {
    "become": "transition", "feed": "feed_forward", "feed_norm": "feed_forward_norm", "look": "appearance",
    "place": "position", "question": "summary_query", "read": "out",
}  # fmt: skip


def rename_former_parameters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives the weights of a checkpoint of any version the parameter names of this version."""
    return {
        ".".join(_FORMER_NAMES.get(part, part) for part in name.split(".")): weight for name, weight in weights.items()
    }


def load_weights(model: Rlan, checkpoint: Checkpoint, averaged: bool) -> None:
    """Loads a checkpoint's weights into a model.

    Args:
        model: the model, of the config that the checkpoint was saved with.
        checkpoint: a checkpoint of this or an earlier version.
        averaged: load the exponential averages where the checkpoint has them.
    Raises:
        CheckpointError: the model has other parameters than the one that was saved.
    """
    try:
        model.load_state_dict(rename_former_parameters({**checkpoint.model, **(checkpoint.ema if averaged else {})}))
    except RuntimeError as error:
        line = str(error).splitlines()[1].strip()
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} does not fit this model, which has another model section or "
            f"comes from another version of rlan: {line:.120}"
        ) from None
