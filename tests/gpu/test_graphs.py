"""The models compile to whole graphs, and to few of them, over the canvases and batch sizes that training has.

The backend "aot_eager" traces forward and backward passes as on a GPU and then runs the graphs without a compiler.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from arc_core.compilation import compile_model
from arc_core.task import Task
from arc_core.tensors import TaskTensors
from hrm.config import ModelConfig as HrmModelConfig
from hrm.data.tokens import CANVASES, window_positions
from hrm.model.reasoner import LatentState, Reasoner
from rlan.config import DataConfig, EquivarianceConfig, LooConfig, RlanConfig
from rlan.config import ModelConfig as RlanModelConfig
from rlan.data.queries import QuerySampler
from rlan.losses.auxiliary_losses import compute_auxiliary_losses
from rlan.losses.objective import build_training_batch, total_loss
from rlan.model.rlan import Rlan

pytestmark = [
    pytest.mark.slow,
    # Of torch's own backend: a graph's backward pass is only then traced ahead of time.
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]

MAX_HRM_GRAPHS = 3  # of the first size, of all sizes, and of the full canvas, whose positions are those of every row
MAX_BASE_GRAPHS = 6
MAX_STABLE_GRAPHS = 16  # left-out batches may be of one query or show one demonstration, and half have no gradients


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Starts each test without graphs or counts, and leaves none."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


def num_graphs() -> int:
    """Returns how many graphs have been traced."""
    return counters["stats"]["unique_graphs"]


def assert_whole_graphs(limit: int) -> None:
    """Checks that no forward pass was split, that none ran uncompiled, and that there are at most `limit` graphs."""
    assert dict(counters["graph_break"]) == {}
    assert dict(counters["unimplemented"]) == {}, "a limit of recompilations was reached"
    assert 0 < num_graphs() <= limit


@pytest.mark.parametrize("architecture", ["trm", "transformer"])
def test_all_canvases_of_trm_and_the_transformer_share_three_whole_graphs(architecture: str) -> None:
    config = HrmModelConfig(
        hidden_size=32, num_heads=2, L_layers=1, puzzle_emb_ndim=32, expansion=1.0,
        no_ACT_continue=True, architecture="trm", gradient_checkpointing=True,
    )  # fmt: skip
    if architecture == "transformer":
        config = replace(config, architecture="transformer", halt_max_steps=1, gradient_checkpointing=False)
    model = Reasoner(config)
    compiled = cast(Reasoner, compile_model(model, "aot_eager"))

    def run_segment(side: int, batch: int) -> None:
        corner = None if side == CANVASES[-1] else torch.zeros(batch, 2, dtype=torch.int64)
        puzzles = torch.zeros(batch, 32, requires_grad=True)
        length = model.prefix_tokens + side**2
        state = LatentState(torch.zeros(batch, length, 32), torch.zeros(batch, length, 32))
        with torch.autocast("cpu", torch.bfloat16):
            _, output = compiled(
                state, torch.ones(batch, side**2, dtype=torch.uint8), puzzles,
                window_positions(side, model.prefix_tokens, corner),
            )  # fmt: skip
        (output.logits.float().square().sum() + output.q_halt.sum()).backward()
        assert puzzles.grad is not None

    order = np.random.default_rng(0).permutation(CANVASES).tolist()
    for side in order:
        run_segment(side, 2)
    assert_whole_graphs(MAX_HRM_GRAPHS)
    for side in reversed(order):
        run_segment(side, 3)
    assert_whole_graphs(MAX_HRM_GRAPHS + 2)  # of all batch sizes, on small canvases and on the full one


@pytest.fixture
def sampler(random_task: Callable[..., Task]) -> QuerySampler:
    """Queries of tasks of 3 x 3 to 30 x 30, with two to five pairs each."""
    sides = (3, 5, 7, 10, 13, 17, 21, 30)
    tasks = [
        random_task([((side, side), (side, side))] * (3 + index % 3), seed=side, task_id=f"side{side:02}")
        for index, side in enumerate(sides)
    ]
    tensors = TaskTensors.from_tasks(tasks)
    return QuerySampler(tensors, DataConfig(samples_per_task=6, max_demonstrations=3), 4, 0)


def run_steps(config: RlanConfig, sampler: QuerySampler, epochs: int) -> list[int]:
    """Trains a compiled model on batches of one to four queries of neighbouring sizes.

    Args:
        config: of the run; its auxiliary losses are computed where it switches them on.
        sampler: of the queries.
        epochs: passes over all tasks.
    Returns:
        the number of graphs after each epoch.
    """
    model = Rlan(config.model)
    compiled = cast(Rlan, compile_model(model, "aot_eager"))
    rng, graphs = np.random.default_rng(0), []
    for epoch in range(epochs):
        queries = sampler.epoch_queries(epoch)
        order = np.argsort(queries.canvas_sides(sampler.tensors), kind="stable")
        starts = rng.permutation(np.arange(0, len(order), 4))
        for step, start in enumerate(starts.tolist()):
            rows = order[start : start + (4 if step % 2 == 0 else 2)]
            share = queries.select(rows).trim_padding()
            inputs, targets = build_training_batch(sampler.tensors, share)
            with torch.autocast("cpu", torch.bfloat16):
                outputs = compiled(inputs)
                draws, is_logged = rng.random((len(rows), 8)), step % 3 == 0
                auxiliary, _ = compute_auxiliary_losses(
                    config, (compiled, model), sampler.tensors, share, outputs, draws, is_logged
                )
            losses = total_loss(outputs, targets, inputs.answer_extent, inputs.query_size, config.training, None)
            total: Tensor = losses.total + auxiliary
            total.backward()  # type: ignore[no-untyped-call]
        graphs.append(num_graphs())
    return graphs


SMALL = RlanModelConfig(
    hidden_dim=16, num_heads=2, num_solver_steps=1, context_layers=1, spatial_downsample=2, max_clues=2
)


def test_all_canvases_and_batch_sizes_of_rlan_share_few_whole_graphs(sampler: QuerySampler) -> None:
    graphs = run_steps(RlanConfig(model=SMALL), sampler, 2)
    assert_whole_graphs(MAX_BASE_GRAPHS)
    assert graphs[1] <= graphs[0] + 1


def test_left_out_batches_of_every_size_share_few_whole_graphs(sampler: QuerySampler) -> None:
    # The parts that the other test covers are left out, which saves half of the time.
    model = replace(SMALL, use_hyperlora=True, use_dsc=False, use_lcr=False, use_sph=False, use_steering=False)
    config = RlanConfig(
        model=model,
        loo_training=LooConfig(enabled=True),
        equivariance_training=EquivarianceConfig(enabled=True, num_augmentations=2),
    )
    run_steps(config, sampler, 1)
    assert_whole_graphs(MAX_STABLE_GRAPHS)
