"""HRM, TRM and a plain transformer behind one interface: a state, one segment of reasoning, an answer.

B batch, P prefix tokens of the puzzle embedding, L cells of the canvas, T = P + L tokens, D channels.
Sources: Wang et al. 2025, arXiv:2506.21734 (HRM); Jolicoeur-Martineau 2025, arXiv:2510.04871 (TRM).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hrm.config import ModelConfig
from hrm.model.layers import Level, cut_normal_, linear, rotary_table, scale_of

_LEARNED_SCALE = 0.707106781  # keeps the variance of a sum of two embeddings


class State(NamedTuple):
    """What is carried between segments: (B, T, D) each."""

    high: Tensor
    low: Tensor


class Answer(NamedTuple):
    """What a segment gives.

    Attributes:
        logits: (B, L, V), of the cells alone.
        halt, go_on: (B,) float32 values of stopping and of continuing.
    """

    logits: Tensor
    halt: Tensor
    go_on: Tensor


class Reasoner(nn.Module):
    """The recurrent network. Puzzle embeddings come from outside, already looked up."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.config = config
        self.prefix = config.prefix_tokens
        self.embed_tokens = nn.Parameter(cut_normal_(torch.empty(config.vocab_size, dim), 1 / scale_of(dim)))
        length = self.prefix + config.seq_len
        self.embed_pos: nn.Parameter | None = None
        if config.pos_encodings == "learned":
            self.embed_pos = nn.Parameter(cut_normal_(torch.empty(length, dim), 1 / scale_of(dim)))

        def level(layers: int) -> Level:
            return Level(
                layers, dim, config.num_heads, config.expansion, config.rms_norm_eps, config.dropout
            )  # fmt: skip

        self.H_level = level(config.H_layers) if config.architecture == "hrm" else None
        self.L_level = level(config.L_layers)
        self.lm_head = linear(dim, config.vocab_size)
        self.q_head = nn.Linear(dim, 2)
        nn.init.zeros_(self.q_head.weight)
        nn.init.constant_(self.q_head.bias, -5.0)  # a new model never stops early
        self.H_init: Tensor
        self.L_init: Tensor
        self.rotary: Tensor
        self.register_buffer("H_init", cut_normal_(torch.empty(dim), 1.0))
        self.register_buffer("L_init", cut_normal_(torch.empty(dim), 1.0))
        table = rotary_table(length, dim // config.num_heads, config.rope_theta)
        self.register_buffer("rotary", table, persistent=False)

    def start(self, batch: int, cells: int, dtype: torch.dtype = torch.float32) -> State:
        """The state before the first segment."""
        shape = (batch, self.prefix + cells, -1)
        return State(self.H_init.to(dtype).expand(shape), self.L_init.to(dtype).expand(shape))

    def forward(self, state: State, tokens: Tensor, puzzles: Tensor | None, positions: Tensor) -> tuple[State, Answer]:
        """One segment.

        Args:
            state: of the segment before, or `start`.
            tokens: (B, L) int.
            puzzles: (B, puzzle_emb_ndim) embeddings, None where the model has none.
            positions: (B or 1, T) int64, places in the sequence of the full canvas, prefix first.
        Returns:
            the next state, detached, and the answer.
        """
        table = None if self.embed_pos is not None else self.rotary[:, positions].unsqueeze(3)
        inputs = self._embedded(tokens, puzzles, positions)
        high, low = self._cycles(state.high.to(inputs.dtype), state.low.to(inputs.dtype), inputs, table)
        logits = self.lm_head(high)[:, self.prefix :]
        values = self.q_head(high[:, 0]).float()
        return State(high.detach(), low.detach()), Answer(logits, values[:, 0], values[:, 1])

    def _embedded(self, tokens: Tensor, puzzles: Tensor | None, positions: Tensor) -> Tensor:
        dim = self.config.hidden_size
        embedded = functional.embedding(tokens.long(), self.embed_tokens)
        if puzzles is not None:
            padded = functional.pad(puzzles, (0, self.prefix * dim - puzzles.shape[1]))
            embedded = torch.cat([padded.view(-1, self.prefix, dim).to(embedded.dtype), embedded], dim=1)
        if self.embed_pos is not None:
            embedded = _LEARNED_SCALE * (embedded + self.embed_pos[positions])
        if torch.is_autocast_enabled(embedded.device.type):
            embedded = embedded.to(torch.get_autocast_dtype(embedded.device.type))
        return scale_of(dim) * embedded

    def _cycles(self, high: Tensor, low: Tensor, inputs: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
        config = self.config
        cycles, inner = config.H_cycles, config.L_cycles
        if config.architecture == "transformer":
            return self._run(self.L_level, high, inputs, table), low
        if self.H_level is not None:  # HRM: gradient through the last update of either level, eq. 4
            with torch.no_grad():
                for update in range(1, cycles * inner):
                    low = self.L_level(low, high + inputs, table)
                    if update % inner == 0:
                        high = self.H_level(high, low, table)
            low = self._run(self.L_level, low, high + inputs, table)
            return self._run(self.H_level, high, low, table), low
        with torch.no_grad():  # TRM: gradient through the last whole cycle
            for _ in range(cycles - 1):
                for _ in range(inner):
                    low = self.L_level(low, high + inputs, table)
                high = self.L_level(high, low, table)
        for _ in range(inner):
            low = self._run(self.L_level, low, high + inputs, table)
        return self._run(self.L_level, high, low, table), low

    def _run(self, level: Level, state: Tensor, injection: Tensor, table: Tensor | None) -> Tensor:
        """A level with gradients, recomputed in the backward pass if memory is short."""
        if self.config.gradient_checkpointing and torch.is_grad_enabled():
            rerun: Tensor = checkpoint(level, state, injection, table, use_reentrant=False)
            return rerun
        out: Tensor = level(state, injection, table)
        return out
