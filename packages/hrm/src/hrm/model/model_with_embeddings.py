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
class ModelWithEmbedding:
    """The model beside its puzzle embedding.

    Attributes:
        model: the recurrent network.
        embedding: of all puzzle identities; None where `model.puzzle_emb_ndim` is 0.
    """

    model: Reasoner
    embedding: PuzzleEmbedding | None

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the weights of both, the embedding's under the published name `puzzle_emb.weights`."""
        rows = {} if self.embedding is None else {"puzzle_emb.weights": self.embedding.weights}
        return self.model.state_dict() | rows

    def load(self, state: Mapping[str, Tensor], source: str, with_embedding: bool = True) -> None:
        """Loads weights that `state_dict` returned.

        Args:
            state: weights by name; the puzzle embedding's may be missing where it is not loaded.
            source: where the weights come from, for the error message.
            with_embedding: also load the puzzle embedding; otherwise it stays as it is.
        Raises:
            CheckpointError: the weights do not fit.
        """
        weights = {name: value for name, value in state.items() if name != "puzzle_emb.weights"}
        try:
            self.model.load_state_dict(weights)
            if self.embedding is not None and with_embedding:
                self.embedding.load_state_dict({"weights": state["puzzle_emb.weights"]})
        except (RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"{source} does not fit this model or these tasks: {reason:.120}") from None


def build_model(config: HrmConfig, num_identities: int) -> ModelWithEmbedding:
    """Builds both with the initial weights of the config's seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=()):  # the weights are made on the CPU
        torch.default_generator.manual_seed(seed_for(config.training.seed, "weights", 0))
        model = Reasoner(config.model)
    channels = config.model.puzzle_emb_ndim
    return ModelWithEmbedding(model, PuzzleEmbedding(num_identities, channels) if channels else None)
