"""RecursiveSolver: refines an answer by a recurrent network.

B batch, T steps, S canvas side, L = S*S cells, M memory tokens, D channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arc_core.tensors import OUTSIDE
from rlan.config import ModelConfig
from rlan.model.hyperlora import Deltas, LowRankDelta
from rlan.model.layers import Attention, MaskedDepthwiseConv, rotary_table

CLASSES = OUTSIDE + 1
_START_GAIN = 3.0  # a cell whose first guess is certain starts at probability 0.67


def lora_layer_sizes(dim: int) -> dict[str, tuple[int, int]]:
    """Returns the input and output channels of the layers that HyperLoRA adapts, by name."""
    gates = dict.fromkeys(("gru_reset", "gru_update", "gru_candidate"), (2 * dim, dim))
    return gates | {"output_head": (dim, CLASSES)}


@dataclass(frozen=True)
class SolverInputs:
    """Inputs of the solver, the same in every step.

    Attributes:
        start: (B, S, S, 11) float32 class probabilities of a first guess at the answer.
        features: (B, S, S, D), already conditioned on the context and the clues.
        answer_mask: (B, S, S) bool, cells within the answer extent.
        memory: (B, M, D) support tokens, counting registers and a null token.
        memory_mask: (B, M) bool.
        gate: (B, 1, 1, D) factor set by the predicates, or None.
        deltas: HyperLoRA's weight changes, empty without HyperLoRA.
    """

    start: Tensor
    features: Tensor
    answer_mask: Tensor
    memory: Tensor
    memory_mask: Tensor
    gate: Tensor | None
    deltas: Deltas


def apply_delta(layer: nn.Linear, cells: Tensor, delta: LowRankDelta | None) -> Tensor:
    """Applies a layer with its weight changed for each sample.

    Args:
        layer: the layer, whose own weight stays as it is.
        cells: (B, S, S, I).
        delta: the change, or None for none.
    """
    output: Tensor = layer(cells)
    return output if delta is None else output + delta(cells)


class ConvGRU(nn.Module):
    """A convolutional gated recurrent unit. Source: Ballas et al. 2016, arXiv:1511.06432, eq. 3-6.

    # Differs: each 3x3 convolution is a depthwise one followed by a linear layer, at a ninth of the cost; cells further
    away are reached by attention.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.local_gates, self.local_candidate = MaskedDepthwiseConv(2 * dim), MaskedDepthwiseConv(2 * dim)
        self.reset, self.update = nn.Linear(2 * dim, dim), nn.Linear(2 * dim, dim)
        self.candidate = nn.Linear(2 * dim, dim)

    def forward(self, hidden: Tensor, inputs: Tensor, mask: Tensor, gate: Tensor | None, deltas: Deltas) -> Tensor:
        """Returns the next (B, S, S, D) hidden state.

        Args:
            hidden: (B, S, S, D) last hidden state.
            inputs: (B, S, S, D) inputs of this step.
            mask: (B, S, S, 1) float, 1 within the answer extent.
            gate: (B, 1, 1, D) factor of the candidate state, or None.
            deltas: HyperLoRA's weight changes, by layer name.
        """
        joined = torch.cat([hidden, inputs], dim=-1)
        joined = joined + self.local_gates(joined, mask)
        reset = torch.sigmoid(apply_delta(self.reset, joined, deltas.get("gru_reset")))
        update = torch.sigmoid(apply_delta(self.update, joined, deltas.get("gru_update")))
        joined = torch.cat([reset * hidden, inputs], dim=-1)
        joined = joined + self.local_candidate(joined, mask)
        candidate = torch.tanh(apply_delta(self.candidate, joined, deltas.get("gru_candidate")))
        if gate is not None:
            candidate = candidate * gate
        return hidden + update * (candidate - hidden)


class RecursiveSolver(nn.Module):
    """Runs T steps; each reads the previous answer, attends across the grid and to the memory, updates the hidden state
    and refines the answer.

    The previous step's class probabilities are fed back: their argmax would stop gradients, and without feedback later
    steps made answers worse. The head starts at zero, so a new model answers with the first guess.
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
        """Returns the (B, T, S, S, 11) float32 logits of the answer after each step."""
        side = inputs.start.shape[1]
        mask = inputs.answer_mask[..., None].to(inputs.features.dtype)
        table = self.rotary[:, :side, :side].flatten(1, 2).to(inputs.features.dtype)
        memory = self.memory.keys_and_values(inputs.memory)
        hidden = torch.tanh(self.start(inputs.features)) * mask
        logits = inputs.start * self.start_gain.float()
        answers = []
        for _ in range(self.steps):
            hidden, logits = self._refine(hidden, logits, inputs, mask, (table[0], table[1]), memory)
            answers.append(logits)
        return torch.stack(answers, dim=1)

    def _refine(
        self,
        hidden: Tensor,
        logits: Tensor,
        inputs: SolverInputs,
        mask: Tensor,
        rotary: tuple[Tensor, Tensor],
        memory: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Returns the hidden state and the logits after one step."""
        feedback = self.feedback(torch.softmax(logits, dim=-1).to(inputs.features.dtype))
        cells = (hidden + inputs.features + feedback).flatten(1, 2)  # (B, L, D)
        if self.attention is not None:
            normalised = self.attention_norm(cells)
            cells = cells + self.attention(
                normalised, self.attention.keys_and_values(normalised), inputs.answer_mask.flatten(1), rotary
            )
        cells = cells + self.memory(self.memory_norm(cells), memory, inputs.memory_mask)
        step_inputs = self.input_norm(cells).view_as(hidden)
        hidden = self.gru(hidden, step_inputs, mask, inputs.gate, inputs.deltas) * mask
        refinement = apply_delta(self.head, self.head_norm(hidden), inputs.deltas.get("output_head"))
        return hidden, logits + refinement.float()
