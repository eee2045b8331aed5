"""Predicts the latent of what a program makes of a grid. B programs, S steps of a program, D channels, A actions."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn

from arc_core.transfer import upload
from jepa_hrl.jepa.data.augment import Tokens
from jepa_hrl.jepa.model.encoder import Encoder
from jepa_hrl.world_model.actions import ARGUMENT_FEATURES, ActionSet
from jepa_hrl.world_model.config import ProgramJepaConfig


class ProgramEncoder(nn.Module):
    """Encodes a program as a vector: an embedding of each action and its arguments, and a GRU over the actions.

    Args:
        actions: A.
        embedding: channels of an action's embedding.
        hidden: channels of a program's vector.
        layers: of the GRU.
    """

    def __init__(self, actions: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(actions, embedding)
        self.arguments = nn.Linear(ARGUMENT_FEATURES, embedding, bias=False)
        self.gru = nn.GRU(embedding, hidden, layers, batch_first=True)

    def forward(self, actions: Tensor, arguments: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        """Encodes every prefix of programs.

        Args:
            actions: (B, S) indices of the actions.
            arguments: (B, S, ARGUMENT_FEATURES).
            lengths: (B,) of the programs; None if all have S actions.
        Returns:
            (B, S, hidden) vectors of the program up to and with each step; 0 after a program's end.
        """
        steps = self.embed(actions) + self.arguments(arguments)
        if lengths is None:
            states: Tensor = self.gru(steps)[0]
            return states
        packed = rnn.pack_padded_sequence(steps, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=actions.shape[1])[0]


class Transition(nn.Module):
    """Predicts the latent of what a program makes, from a grid's latent and the program's vector.

    Args:
        latent: D.
        program: channels of a program's vector.
        hidden: channels that the program scales and shifts.
    """

    def __init__(self, latent: int, program: int, hidden: int) -> None:
        super().__init__()
        self.of_latent = nn.Sequential(nn.LayerNorm(latent), nn.Linear(latent, hidden))
        self.scale = nn.Linear(program, hidden)
        self.shift = nn.Linear(program, hidden)
        self.predict = nn.Sequential(nn.GELU(), nn.Linear(hidden, latent))

    def forward(self, latents: Tensor, programs: Tensor) -> Tensor:
        """Predicts (..., D) latents from (..., D) latents and (..., program) vectors; leading sides may broadcast."""
        return latents + self.predict_change(self.of_latent(latents), self.scale(programs), self.shift(programs))

    def predict_change(self, read: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Predicts (..., D) what is added to latents.

        Args:
            read: (..., hidden) what `of_latent` makes of the latents.
            scale: (..., hidden) of the programs.
            shift: (..., hidden) of the programs.
        """
        change: Tensor = self.predict(read * (1 + scale) + shift)
        return change


class Inverse(nn.Module):
    """Predicts from two latents the first action of a program that leads from one to the other.

    Args:
        latent: D.
        hidden: width of the hidden layers.
        actions: A.
    Source: the inverse model of Pathak et al. 2017, arXiv:1705.05363, over several steps.
    """

    def __init__(self, latent: int, hidden: int, actions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4 * latent, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, actions)
        )

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Returns (B, A) logits from (B, D) latents before and after the program."""
        before, after = normalize_latents(before), normalize_latents(after)
        logits: Tensor = self.layers(torch.cat([before, after, after - before, before * after], dim=-1))
        return logits


def normalize_latents(latents: Tensor) -> Tensor:
    """Scales (..., D) latents to a mean square of 1 over channels, which leaves cosines as they are."""
    normalized: Tensor = functional.normalize(latents, dim=-1) * latents.shape[-1] ** 0.5
    return normalized


class ProgramJepa(nn.Module):
    """An encoder of grids, an encoder of programs, and the transition from a grid's latent to its outcome's."""

    def __init__(self, config: ProgramJepaConfig, actions: int) -> None:
        super().__init__()
        latent, program = config.object_encoder.latent_dim, config.program_encoder
        self.encoder = Encoder(config.object_encoder)
        self.programs = ProgramEncoder(actions, program.embedding_dim, program.hidden_dim, program.num_layers)
        self.transition = Transition(latent, program.hidden_dim, program.transition_dim)
        self.inverse = Inverse(latent, 2 * program.hidden_dim, actions)
        self.log_temperature = nn.Parameter(
            torch.tensor(config.loss.temperature).log(), requires_grad=config.loss.learnable_temperature
        )

    @property
    def temperature(self) -> Tensor:
        """Scalar by which cosines are divided; within 0.01..1 if it is learned."""
        temperature = self.log_temperature.exp()
        return temperature.clamp(0.01, 1.0) if self.log_temperature.requires_grad else temperature

    def encode(self, tokens: Tokens) -> Tensor:
        """Encodes the grids that some tokens are of: (G, D) latents."""
        latents: Tensor = self.encoder(tokens).latents
        return latents

    def forward(
        self, tokens: Tokens, actions: Tensor, arguments: Tensor, lengths: Sequence[int], sources: Tensor,
        outcomes: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Encodes grids and predicts what programs make of them.

        Args:
            tokens: of G grids.
            actions: (B, S) indices of the programs' actions.
            arguments: (B, S, ARGUMENT_FEATURES).
            lengths: (B,) of the programs; n is their sum, the number of steps.
            sources: (n,) index of the grid that each step's program is applied to.
            outcomes: (n,) index of the grid after each step.
        Returns:
            latents: (G, D) of the grids.
            predictions: (n, D) predicted latents of the outcomes.
            logits: (n, A) of the first action between source and outcome, by the inverse model.
        """
        latents = self.encode(tokens)
        vectors = self.programs(actions, arguments, lengths)
        is_step = np.arange(vectors.shape[1]) < np.array(lengths)[:, None]
        (steps,) = upload([np.flatnonzero(is_step)], vectors.device)
        before = latents[sources]
        predictions = self.transition(before, vectors.flatten(0, 1).index_select(0, steps))
        return latents, predictions, self.inverse(before, latents[outcomes])

    @torch.no_grad()
    def action_vectors(self, actions: ActionSet) -> Tensor:
        """Encodes every action as a program: (A, hidden), `recolor` with an empty table."""
        indices = torch.arange(len(actions), device=self.log_temperature.device)[:, None]
        arguments = torch.stack([torch.from_numpy(actions.argument_features(n)) for n in range(len(actions))])
        vectors: Tensor = self.programs(indices, arguments[:, None].to(indices.device))
        return vectors[:, 0]

    @torch.no_grad()
    def program_vector(self, actions: ActionSet, sequence: Sequence[int]) -> Tensor:
        """Encodes a sequence of actions: (1, hidden), `recolor` with an empty table."""
        indices = torch.tensor([sequence], device=self.log_temperature.device)
        arguments = torch.stack([torch.from_numpy(actions.argument_features(n)) for n in sequence])
        vectors: Tensor = self.programs(indices, arguments[None].to(indices.device))
        return vectors[:, -1]

    @torch.no_grad()
    def table_vectors(self, actions: ActionSet, tables: Sequence[dict[int, int]]) -> Tensor:
        """Encodes `recolor` with each of n tables of colours: (n, hidden)."""
        assert actions.recolor is not None
        recolor = actions.recolor
        arguments = torch.stack([torch.from_numpy(actions.argument_features(recolor, table)) for table in tables])
        arguments = arguments[:, None].to(self.log_temperature.device)
        indices = torch.full((len(tables), 1), recolor, device=arguments.device)
        vectors: Tensor = self.programs(indices, arguments)
        return vectors[:, 0]
