"""HRM, TRM and a plain transformer behind one interface: latent states in, one segment of reasoning, an output.

B batch, P prefix tokens of the puzzle embedding, L cells of the canvas, T = P + L tokens, D channels, V tokens.
Sources: Wang et al. 2025, arXiv:2506.21734 (HRM); Jolicoeur-Martineau 2025, arXiv:2510.04871 (TRM).

The gradient is cut in two places, which keeps the memory of a training step constant in the length of reasoning:

1. Inside a segment, `Reasoner._recur` runs all but the last updates under `torch.no_grad`. In HRM this is the one-step
   gradient approximation (section "Approximate gradient"): the gradient of the last update of each level stands for
   that of the fixed point. TRM backpropagates through its whole last cycle instead (section 4.1).
2. Between segments, `Reasoner.forward` returns detached states. Every segment has a loss of its own (HRM's section
   "Deep supervision"), and no loss sends a gradient into an earlier segment.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hrm.config import ModelConfig
from hrm.model.layers import ReasoningModule, embedding_scale, fill_truncated_normal, make_linear, rotary_table

_LEARNED_SCALE = 0.707106781  # keeps the variance of a sum of two embeddings


class LatentState(NamedTuple):
    """The two latent states, which are carried from segment to segment.

    Attributes:
        z_H: (B, T, D) of the slow, high level. The output is read from it; it is y of TRM's paper.
        z_L: (B, T, D) of the fast, low level; z of TRM's paper. The transformer leaves it as it is.
    """

    z_H: Tensor
    z_L: Tensor


class SegmentOutput(NamedTuple):
    """What the output heads read from z_H after a segment.

    Attributes:
        logits: (B, L, V) of the answer's tokens, without the prefix.
        q_halt, q_continue: (B,) float32 logits of the values of halting now and of running another segment.
    """

    logits: Tensor
    q_halt: Tensor
    q_continue: Tensor


class Reasoner(nn.Module):
    """The recurrent network. Puzzle embeddings come from outside, already looked up."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.config = config
        self.prefix_tokens = config.prefix_tokens
        self.embed_tokens = nn.Parameter(
            fill_truncated_normal(torch.empty(config.vocab_size, dim), 1 / embedding_scale(dim))
        )
        length = self.prefix_tokens + config.seq_len
        self.embed_pos: nn.Parameter | None = None
        if config.pos_encodings == "learned":
            self.embed_pos = nn.Parameter(fill_truncated_normal(torch.empty(length, dim), 1 / embedding_scale(dim)))

        def make_module(layers: int) -> ReasoningModule:
            return ReasoningModule(
                layers, dim, config.num_heads, config.expansion, config.rms_norm_eps, config.dropout
            )  # fmt: skip

        self.H_level = make_module(config.H_layers) if config.architecture == "hrm" else None
        self.L_level = make_module(config.L_layers)
        self.lm_head = make_linear(dim, config.vocab_size)
        self.q_head = nn.Linear(dim, 2)
        nn.init.zeros_(self.q_head.weight)
        nn.init.constant_(self.q_head.bias, -5.0)  # a new model never stops early
        self.H_init: Tensor
        self.L_init: Tensor
        self.rotary: Tensor
        self.register_buffer("H_init", fill_truncated_normal(torch.empty(dim), 1.0))
        self.register_buffer("L_init", fill_truncated_normal(torch.empty(dim), 1.0))
        table = rotary_table(length, dim // config.num_heads, config.rope_theta)
        self.register_buffer("rotary", table, persistent=False)

    def initial_state(self, batch: int, cells: int, dtype: torch.dtype = torch.float32) -> LatentState:
        """Returns the latent states before the first segment, the same vector in every token.

        Args:
            batch: B.
            cells: L, cells of the canvas.
            dtype: of the states.
        """
        shape = (batch, self.prefix_tokens + cells, -1)
        return LatentState(self.H_init.to(dtype).expand(shape), self.L_init.to(dtype).expand(shape))

    def forward(
        self, state: LatentState, tokens: Tensor, puzzle_embeddings: Tensor | None, positions: Tensor
    ) -> tuple[LatentState, SegmentOutput]:
        """Runs one segment.

        Args:
            state: latent states of the segment before, or `initial_state`.
            tokens: (B, L) int.
            puzzle_embeddings: (B, E) float, None where the model has none.
            positions: (B or 1, T) int64, positions in the sequence of the full canvas, prefix first.
        Returns:
            the next latent states, detached, and the output.
        """
        cos_sin = None if self.embed_pos is not None else self.rotary[:, positions].unsqueeze(3)
        inputs = self._embed_inputs(tokens, puzzle_embeddings, positions)
        z_H, z_L = self._recur(LatentState(*(z.to(inputs.dtype) for z in state)), inputs, cos_sin)
        logits = self.lm_head(z_H)[:, self.prefix_tokens :]
        q_values = self.q_head(z_H[:, 0]).float()
        output = SegmentOutput(logits, q_values[:, 0], q_values[:, 1])
        return LatentState(z_H.detach(), z_L.detach()), output  # gradient cut 2, see the top of this file

    def _embed_inputs(self, tokens: Tensor, puzzle_embeddings: Tensor | None, positions: Tensor) -> Tensor:
        """Returns x of the papers, (B, T, D): the puzzle embedding spread over the prefix, then the cells' tokens."""
        dim = self.config.hidden_size
        embedded = functional.embedding(tokens.long(), self.embed_tokens)
        if puzzle_embeddings is not None:
            padded = functional.pad(puzzle_embeddings, (0, self.prefix_tokens * dim - puzzle_embeddings.shape[1]))
            embedded = torch.cat([padded.view(-1, self.prefix_tokens, dim).to(embedded.dtype), embedded], dim=1)
        if self.embed_pos is not None:
            embedded = _LEARNED_SCALE * (embedded + self.embed_pos[positions])
        if torch.is_autocast_enabled(embedded.device.type):
            embedded = embedded.to(torch.get_autocast_dtype(embedded.device.type))
        return embedding_scale(dim) * embedded

    def _recur(self, state: LatentState, inputs: Tensor, cos_sin: Tensor | None) -> LatentState:
        """Updates both latent states: z_L L_cycles times, then z_H once, and all of this H_cycles times.

        Only the last updates get a gradient: one of z_L and one of z_H in HRM, L_cycles of z_L and one of z_H in TRM.
        """
        config = self.config
        z_H, z_L = state
        if config.architecture == "transformer":  # one pass, no recursion
            return LatentState(self._update(self.L_level, z_H, inputs, cos_sin), z_L)
        H_level = self.L_level if self.H_level is None else self.H_level  # TRM has one module for both levels
        updates_with_gradient = config.L_cycles if self.H_level is None else 1
        with torch.no_grad():  # gradient cut 1, see the top of this file
            for update in range(1, config.H_cycles * config.L_cycles - updates_with_gradient + 1):
                z_L = self.L_level(z_L, z_H + inputs, cos_sin)
                if update % config.L_cycles == 0:
                    z_H = H_level(z_H, z_L, cos_sin)
        for _ in range(updates_with_gradient):
            z_L = self._update(self.L_level, z_L, z_H + inputs, cos_sin)
        return LatentState(self._update(H_level, z_H, z_L, cos_sin), z_L)

    def _update(self, module: ReasoningModule, z: Tensor, injection: Tensor, cos_sin: Tensor | None) -> Tensor:
        """Updates one latent state with gradient; its activations are recomputed in the backward pass if asked for."""
        if self.config.gradient_checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(module, z, injection, cos_sin, use_reentrant=False)
            return recomputed
        out: Tensor = module(z, injection, cos_sin)
        return out
