"""RLAN: the parts put together.

B batch, N demonstrations, K clues, S canvas side, D channels, T solver steps, P predicates.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from arc_core.checkpoint import Checkpoint, CheckpointError
from rlan.config import ModelConfig
from rlan.data.queries import Inputs
from rlan.model.context_encoder import Context, ContextEncoder
from rlan.model.counting import LatentCountingRegisters, color_transitions, first_guess
from rlan.model.extents import HINTS, extent_hints
from rlan.model.grid_encoder import GridEncoder
from rlan.model.hyperlora import Deltas, HyperLora
from rlan.model.layers import Attention, extent_mask
from rlan.model.predicates import SymbolicPredicateHeads
from rlan.model.recursive_solver import CLASSES, RecursiveSolver, SolverInputs, adapted_layers
from rlan.model.relative_encoding import CHANNELS, MultiScaleRelativeEncoding, mean_over_clues
from rlan.model.saliency import Clues, DynamicSaliencyController
from rlan.model.steering import SteeredAttention


class Outputs(NamedTuple):
    """What a forward pass gives.

    Attributes:
        logits: (B, T, S, S, 11) float32, the answer after each step: 10 colours and outside.
        clues: of DSC, None if switched off.
        predicates: (B, P) in 0..1, None if switched off.
        context: (B, D), None if switched off.
        deltas: HyperLoRA's changes of the solver's weights, empty if switched off.
    """

    logits: Tensor
    clues: Clues | None
    predicates: Tensor | None
    context: Tensor | None
    deltas: Deltas


class Rlan(nn.Module):
    """Recursive Latent Attractor Network. Parts that are switched off are not built."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.dim = dim
        self.encoder = GridEncoder(dim)
        self.null_token = nn.Parameter(torch.randn(dim) * 0.1)
        self.context = ContextEncoder(config) if config.use_context else None
        self.from_hints = nn.Linear(HINTS, dim, bias=False) if config.use_context else nn.Identity()
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
        self.hyperlora = HyperLora(config, adapted_layers(dim)) if config.use_hyperlora else None
        self.solver = RecursiveSolver(config)

    def forward(self, inputs: Inputs, adapt: bool = True) -> Outputs:
        """Logits of the answers to a batch of queries, each given its own demonstrations.

        Args:
            adapt: apply HyperLoRA's changes; without them, what it adds can be measured.
        """
        side = inputs.query.shape[-1]
        live = extent_mask(inputs.live, side)
        grid = extent_mask(inputs.query_size, side)
        features = self.encoder(inputs.query, inputs.query_size, live[..., None].float())
        context: Context | None = None
        vector = features.new_zeros(len(features), self.dim)
        if self.context is not None:
            context = self.context(self.encoder, inputs.demos, inputs.demo_sizes, inputs.demo_mask)
            vector = context.vector
            features = self._injected(features, context)
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
                start = first_guess(start, transitions)
            registers, by_cell = self.counting(inputs.query, features, transitions)
            features = features + by_cell
        predicates = self.predicates(features, vector, grid) if self.predicates is not None else None
        memory, memory_mask = self._memory(features, registers, context)
        gate = None if self.predicates is None or predicates is None else self.predicates.gate(predicates)
        deltas = self.hyperlora(vector) if self.hyperlora is not None and adapt else {}
        logits = self.solver(SolverInputs(start, features, live, memory, memory_mask, gate, deltas))
        return Outputs(logits, clues, predicates, None if context is None else vector, deltas)

    def deltas(self, inputs: Inputs) -> Deltas:
        """HyperLoRA's changes for the demonstrations of a batch, without answering it."""
        if self.context is None or self.hyperlora is None:
            return {}
        context = self.context(self.encoder, inputs.demos, inputs.demo_sizes, inputs.demo_mask)
        changes: Deltas = self.hyperlora(context.vector)
        return changes

    def _injected(self, features: Tensor, context: Context) -> Tensor:
        if self.film is not None:
            scale, shift = self.film(context.vector)[:, None, None].chunk(2, dim=-1)
            filmed: Tensor = features * (1 + scale) + shift
            return filmed
        assert self.inject is not None
        memory = self.inject.keys_and_values(context.tokens)
        read = self.inject(self.inject_norm(features.flatten(1, 2)), memory, context.token_mask)
        injected: Tensor = features + read.view_as(features)
        return injected

    def _memory(self, features: Tensor, registers: Tensor | None, context: Context | None) -> tuple[Tensor, Tensor]:
        """The tokens that every solver step attends to; the null token is there even when nothing else is."""
        parts = [self.null_token.expand(len(features), 1, -1).to(features.dtype)]
        masks = [torch.ones(len(features), 1, dtype=torch.bool, device=features.device)]
        if registers is not None:
            parts.append(registers)
            masks.append(masks[0].expand(-1, registers.shape[1]))
        if context is not None:
            parts.append(context.tokens)
            masks.append(context.token_mask)
        return torch.cat([part.to(features.dtype) for part in parts], dim=1), torch.cat(masks, dim=1)


def load_weights(model: Rlan, checkpoint: Checkpoint, averaged: bool) -> None:
    """Puts a checkpoint's weights into a model.

    Args:
        averaged: take the averaged ones where the checkpoint has them.
    Raises:
        CheckpointError: the model has other parameters than the one that was saved.
    """
    try:
        model.load_state_dict(dict(checkpoint.model) | (dict(checkpoint.ema) if averaged else {}))
    except RuntimeError as error:
        line = str(error).splitlines()[1].strip()
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} does not fit this model, which has another model section or "
            f"comes from another version of rlan: {line:.120}"
        ) from None
