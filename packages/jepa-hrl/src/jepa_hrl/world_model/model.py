"""The latent that a program makes of a grid's latent. B grids, S steps of a program, D latent channels, A actions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn

from jepa_hrl.jepa.data.augment import Tokens
from jepa_hrl.jepa.model.encoder import Encoder
from jepa_hrl.world_model.actions import ARGUMENT_FEATURES, ActionSet
from jepa_hrl.world_model.config import ProgramJepaConfig


class ProgramEncoder(nn.Module):
    """A program, action by action, to a vector: an embedding of each action beside its arguments, and a GRU."""

    def __init__(self, actions: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(actions, embedding)
        self.arguments = nn.Linear(ARGUMENT_FEATURES, embedding, bias=False)
        self.gru = nn.GRU(embedding, hidden, layers, batch_first=True)

    def forward(self, numbers: Tensor, arguments: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        """(B, S, hidden) what the program has been up to and with each step.

        Args:
            numbers: (B, S) of the actions.
            arguments: (B, S, ARGUMENT_FEATURES).
            lengths: (B,) of the programs, after which nothing is computed and 0 returned; None where all have S.
        """
        steps = self.embed(numbers) + self.arguments(arguments)
        if lengths is None:
            states: Tensor = self.gru(steps)[0]
            return states
        packed = rnn.pack_padded_sequence(steps, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=numbers.shape[1])[0]


class Transition(nn.Module):
    """A latent and a program's vector to the latent of what the program makes."""

    def __init__(self, latent: int, program: int, hidden: int) -> None:
        super().__init__()
        self.of_latent = nn.Sequential(nn.LayerNorm(latent), nn.Linear(latent, hidden))
        self.scale = nn.Linear(program, hidden)
        self.shift = nn.Linear(program, hidden)
        self.predict = nn.Sequential(nn.GELU(), nn.Linear(hidden, latent))

    def forward(self, latents: Tensor, programs: Tensor) -> Tensor:
        """(..., D) of (..., D) latents and (..., program) vectors, whose leading sides need only be alike."""
        return latents + self.predict_change(self.of_latent(latents), self.scale(programs), self.shift(programs))

    def predict_change(self, read: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """(..., D) what is added to latents, of what was read off them and off programs, (..., hidden) each."""
        found: Tensor = self.predict(read * (1 + scale) + shift)
        return found


class Inverse(nn.Module):
    """Two latents to the action that a program leading from one to the other begins with.

    Source: the inverse model of Pathak et al. 2017, arXiv:1705.05363, over several steps.
    """

    def __init__(self, latent: int, hidden: int, actions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4 * latent, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, actions)
        )

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """(B, A) logits from (B, D) latents."""
        one, other = normalize_latents(before), normalize_latents(after)
        logits: Tensor = self.layers(torch.cat([one, other, other - one, one * other], dim=-1))
        return logits


def normalize_latents(latents: Tensor) -> Tensor:
    """(..., D) latents at unit variance over channels, as cosines see them."""
    scaled: Tensor = functional.normalize(latents, dim=-1) * latents.shape[-1] ** 0.5
    return scaled


class ProgramJepa(nn.Module):
    """Encoder of grids, encoder of programs, and the transition between latents that they make."""

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
        """Of cosines; within 0.01..1 where it is learnt."""
        temperature = self.log_temperature.exp()
        return temperature.clamp(0.01, 1.0) if self.log_temperature.requires_grad else temperature

    def encode(self, tokens: Tokens) -> Tensor:
        """(G, D) latents of grids."""
        latents: Tensor = self.encoder(tokens).latents
        return latents

    def forward(
        self, tokens: Tokens, numbers: Tensor, arguments: Tensor, lengths: Sequence[int], froms: Tensor, tos: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """(G, D) latents of the grids, (n, D) predicted ones after each step of programs, (n, A) inverse logits.

        Args:
            numbers, arguments, lengths: see `ProgramEncoder`; n is the sum of the lengths.
            froms: (n,) the grid that each step's program is applied to.
            tos: (n,) what it has made of it, for the inverse model, which is asked for the first action.
        """
        latents = self.encode(tokens)
        states = self.programs(numbers, arguments, lengths)
        there = torch.arange(states.shape[1]) < torch.tensor(lengths)[:, None]
        before = latents[froms]
        return latents, self.transition(before, states[there.to(states.device)]), self.inverse(before, latents[tos])

    @torch.no_grad()
    def action_vectors(self, actions: ActionSet) -> Tensor:
        """(A, hidden) of every action alone, `recolor` with an empty table."""
        numbers = torch.arange(len(actions), device=self.log_temperature.device)[:, None]
        arguments = torch.stack([torch.from_numpy(actions.argument_features(n)) for n in range(len(actions))])
        states: Tensor = self.programs(numbers, arguments[:, None].to(numbers.device))
        return states[:, 0]

    @torch.no_grad()
    def program_vector(self, actions: ActionSet, sequence: Sequence[int]) -> Tensor:
        """(1, hidden) of a sequence of actions, `recolor` with an empty table."""
        numbers = torch.tensor([sequence], device=self.log_temperature.device)
        arguments = torch.stack([torch.from_numpy(actions.argument_features(n)) for n in sequence])
        states: Tensor = self.programs(numbers, arguments[None].to(numbers.device))
        return states[:, -1]

    @torch.no_grad()
    def table_vectors(self, actions: ActionSet, tables: Sequence[dict[int, int]]) -> Tensor:
        """(n, hidden) of `recolor` with each of n tables."""
        assert actions.recolor is not None
        number = actions.recolor
        arguments = torch.stack([torch.from_numpy(actions.argument_features(number, table)) for table in tables])
        arguments = arguments[:, None].to(self.log_temperature.device)
        numbers = torch.full((len(tables), 1), number, device=arguments.device)
        states: Tensor = self.programs(numbers, arguments)
        return states[:, 0]
