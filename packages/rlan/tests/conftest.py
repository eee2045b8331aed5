from collections.abc import Callable

import pytest
import torch

from arc_core.task import Task
from arc_core.tensors import TaskTensors
from rlan.config import ModelConfig
from rlan.model.rlan import Rlan


@pytest.fixture
def tensors(random_task: Callable[..., Task]) -> TaskTensors:
    """Tasks of 1, 2 and 3 demonstrations and one test pair: pairs 0..1, 2..4 and 5..8."""
    sizes = [((3, 4), (4, 3)), ((2, 5), (2, 5)), ((4, 4), (4, 4)), ((5, 2), (5, 2))]
    return TaskTensors.from_tasks([random_task(sizes[: 2 + count], seed=count) for count in range(3)])


@pytest.fixture
def hyperlora_config() -> ModelConfig:
    return ModelConfig(
        hidden_dim=16, num_heads=2, num_solver_steps=2, context_layers=1, spatial_downsample=3, use_hyperlora=True
    )


@pytest.fixture
def hyperlora_model(hyperlora_config: ModelConfig) -> Rlan:
    """A model with HyperLoRA whose zero-initialised parameters are random, so that every part has an effect."""
    torch.manual_seed(0)
    model = Rlan(hyperlora_config)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model
