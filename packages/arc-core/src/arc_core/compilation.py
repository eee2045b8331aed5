"""Compiles a model whose batches vary in size."""

from typing import cast

import torch
from torch import nn

# Graphs that one model may have. torch's own limit of 8, past which the model runs uncompiled after one warning, is too
# low here: sizes of 1, the full canvas, flags of a batch and passes without gradients each need graphs of their own.
MAX_GRAPHS = 64


def compile_model(model: nn.Module, backend: str = "inductor") -> nn.Module:
    """Compiles a model with torch.compile for as many kinds of batches as training has.

    Args:
        model: whose parameters the compiled model shares.
        backend: of torch.compile; "aot_eager" needs no compiler, for tests.
    """
    torch._dynamo.config.recompile_limit = max(MAX_GRAPHS, torch._dynamo.config.recompile_limit)
    return cast(nn.Module, torch.compile(model, backend=backend))
