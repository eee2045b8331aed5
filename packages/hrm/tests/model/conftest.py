"""Small models in float64 that the tests of this folder share."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from hrm.config import ModelConfig
from hrm.model.reasoner import Reasoner


@pytest.fixture
def configs() -> dict[str, ModelConfig]:
    """A config of each architecture: 6 x 6 cells, 2 to 3 prefix tokens, at most 4 segments."""
    hrm = ModelConfig(
        hidden_size=16, num_heads=2, H_layers=1, L_layers=2, H_cycles=2, L_cycles=3, puzzle_emb_ndim=24, seq_len=36,
        expansion=1.0, halt_max_steps=4,
    )  # fmt: skip
    return {
        "hrm": hrm,
        "trm": replace(hrm, architecture="trm", no_ACT_continue=True, puzzle_emb_len=3),
        "transformer": replace(hrm, architecture="transformer"),
    }


@pytest.fixture
def build_reasoner() -> Callable[[ModelConfig], Reasoner]:
    """Builds a model in float64 whose Q-values depend on its input, as those of a new model do not."""

    def build(config: ModelConfig) -> Reasoner:
        torch.manual_seed(0)
        model = Reasoner(config)
        with torch.no_grad():
            model.q_head.weight.normal_()
        return model.double()

    return build
