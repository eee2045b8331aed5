"""RecursiveSolver: a recurrent refinement of an answer.

B batch, T steps, S canvas side, L = S*S cells, M memory tokens, D channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arc_core.tensors import OUTSIDE
from rlan.config import ModelConfig
from rlan.model.hyperlora import Deltas, LowRank
from rlan.model.layers import Attention, LocalMix, rotary_table

CLASSES = OUTSIDE + 1
_START_GAIN = 3.0  # a certain cell starts at probability 0.67


def adapted_layers(dim: int) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the layers that HyperLoRA changes."""
    gates = dict.fromkeys(("gru_reset", "gru_update", "gru_candidate"), (2 * dim, dim))
    return gates | {"output_head": (dim, CLASSES)}


@dataclass(frozen=True)
class SolverInputs:
    """What every step may use.

    Attributes:
        start: (B, S, S, 11) float32 probabilities of a first guess at the answer.
        features: (B, S, S, D), already conditioned on the context and the clues.
        live: (B, S, S) bool, the cells that an answer may fill and one ring more.
        memory: (B, M, D) support tokens, counting registers and a null token.
        memory_mask: (B, M) bool.
        gate: (B, 1, 1, D) from the predicates, or None.
        deltas: changes of the weights by HyperLoRA, empty without.
    """

    start: Tensor
    features: Tensor
    live: Tensor
    memory: Tensor
    memory_mask: Tensor
    gate: Tensor | None
    deltas: Deltas


def adapted(layer: nn.Linear, cells: Tensor, delta: LowRank | None) -> Tensor:
    """The layer's output on (B, S, S, I) cells with its weight changed for each sample."""
    plain: Tensor = layer(cells)
    return plain if delta is None else plain + delta(cells)


class ConvGRU(nn.Module):
    """A convolutional gated recurrent unit. Source: Ballas et al. 2016, arXiv:1511.06432, eq. 3-6.

    # Differs: the 3x3 convolutions are depthwise and then linear in a cell, at a ninth of the cost; cells further
    away are reached by attention.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.local_gates, self.local_candidate = LocalMix(2 * dim), LocalMix(2 * dim)
        self.reset, self.update = nn.Linear(2 * dim, dim), nn.Linear(2 * dim, dim)
        self.candidate = nn.Linear(2 * dim, dim)

    def forward(self, hidden: Tensor, inputs: Tensor, mask: Tensor, gate: Tensor | None, deltas: Deltas) -> Tensor:
        """The next (B, S, S, D) hidden state from the last one and inputs of the same shape."""
        both = torch.cat([hidden, inputs], dim=-1)
        both = both + self.local_gates(both, mask)
        reset = torch.sigmoid(adapted(self.reset, both, deltas.get("gru_reset")))
        update = torch.sigmoid(adapted(self.update, both, deltas.get("gru_update")))
        both = torch.cat([reset * hidden, inputs], dim=-1)
        mixed = both + self.local_candidate(both, mask)
        candidate = torch.tanh(adapted(self.candidate, mixed, deltas.get("gru_candidate")))
        if gate is not None:
            candidate = candidate * gate
        return hidden + update * (candidate - hidden)


class RecursiveSolver(nn.Module):
    """T steps of: read the previous answer, look across the grid, look at the memory, update, refine the answer.

    The previous step's probabilities are fed back, soft: the argmax would stop gradients, and without them
    later steps made answers worse. The head starts at zero, so a new model answers with the first guess.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.steps = config.num_solver_steps
        self.start = nn.Linear(dim, dim)
        self.feedback = nn.Linear(CLASSES, dim, bias=False)
        self.attention: Attention | None = None
        if config.solver_attention:
            self.attention_norm, self.attention = nn.RMSNorm(dim), Attention(dim, config.num_heads)
        self.memory_norm, self.memory = nn.RMSNorm(dim), Attention(dim, config.num_heads)
        self.input_norm = nn.RMSNorm(dim)
        self.gru = ConvGRU(dim)
        self.head_norm = nn.RMSNorm(dim)
        self.head = nn.Linear(dim, CLASSES)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.start_gain = nn.Parameter(torch.tensor(_START_GAIN))
        self.rotary: Tensor
        self.register_buffer("rotary", rotary_table(dim // config.num_heads), persistent=False)

    def forward(self, inputs: SolverInputs) -> Tensor:
        """(B, T, S, S, 11) float32 logits of the answer after each step."""
        side = inputs.start.shape[1]
        mask = inputs.live[..., None].to(inputs.features.dtype)
        table = self.rotary[:, :side, :side].flatten(1, 2).to(inputs.features.dtype)
        memory = self.memory.keys_and_values(inputs.memory)
        hidden = torch.tanh(self.start(inputs.features)) * mask
        logits = inputs.start * self.start_gain.float()
        answers = []
        for _ in range(self.steps):
            hidden, logits = self._step(hidden, logits, inputs, mask, (table[0], table[1]), memory)
            answers.append(logits)
        return torch.stack(answers, dim=1)

    def _step(
        self,
        hidden: Tensor,
        logits: Tensor,
        inputs: SolverInputs,
        mask: Tensor,
        rotary: tuple[Tensor, Tensor],
        memory: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        feedback = self.feedback(torch.softmax(logits, dim=-1).to(inputs.features.dtype))
        cells = (hidden + inputs.features + feedback).flatten(1, 2)  # (B, L, D)
        if self.attention is not None:
            normed = self.attention_norm(cells)
            cells = cells + self.attention(
                normed, self.attention.keys_and_values(normed), inputs.live.flatten(1), rotary
            )
        cells = cells + self.memory(self.memory_norm(cells), memory, inputs.memory_mask)
        seen = self.input_norm(cells).view_as(hidden)
        hidden = self.gru(hidden, seen, mask, inputs.gate, inputs.deltas) * mask
        refinement = adapted(self.head, self.head_norm(hidden), inputs.deltas.get("output_head"))
        return hidden, logits + refinement.float()
