"""The model and its puzzle embedding, which the optimisers and DDP must not see as one."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from arc_core.checkpoint import CheckpointError
from arc_core.randomness import seed_for
from hrm.config import HrmConfig
from hrm.model.puzzle_embedding import PuzzleEmbedding
from hrm.model.reasoner import Reasoner


@dataclass(frozen=True)
class Networks:
    """The model and its puzzle embedding, None where it has none."""

    model: Reasoner
    embedding: PuzzleEmbedding | None

    def state_dict(self) -> dict[str, Tensor]:
        """Weights of both."""
        rows = {} if self.embedding is None else {"puzzle_emb.weights": self.embedding.weights}
        return self.model.state_dict() | rows

    def load(self, state: Mapping[str, Tensor], where: str, with_embedding: bool = True) -> None:
        """Takes weights over.

        Args:
            with_embedding: the puzzle embedding too; without it, it stays as it is.
        Raises:
            CheckpointError: they do not fit.
        """
        weights = {name: value for name, value in state.items() if name != "puzzle_emb.weights"}
        try:
            self.model.load_state_dict(weights)
            if self.embedding is not None and with_embedding:
                self.embedding.load_state_dict({"weights": state["puzzle_emb.weights"]})
        except (RuntimeError, KeyError) as error:
            line = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"{where} does not fit this model or these tasks: {line:.120}") from None


def build_networks(config: HrmConfig, identities: int) -> Networks:
    """With the initial weights of the seed; the global random state is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(config.training.seed, "weights", 0))
        model = Reasoner(config.model)
    channels = config.model.puzzle_emb_ndim
    return Networks(model, PuzzleEmbedding(identities, channels) if channels else None)
