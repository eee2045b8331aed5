"""Memory of one training step of each method on the largest canvas, for `estimate_memory.py`.

A step's forward and backward pass run on fake CUDA tensors under CUDA's autocast, at the real micro-batch. The JEPA,
whose batches depend on the data, runs on the CPU at three small sizes, through which a parabola is laid.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fake_cuda
import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from arc_core.datasets import load_tasks
from arc_core.grid import MAX_SIDE
from arc_core.runs import RunFolder
from hrm.config import HrmConfig
from hrm.data.tokens import CANVASES
from hrm.losses import segment_losses
from hrm.model.halting import Batch, q_continue_target, reset_halted
from hrm.model.reasoner import LatentState, Reasoner, SegmentOutput
from jepa_hrl.jepa.config import JepaConfig
from jepa_hrl.jepa.data.dataset import JepaData
from jepa_hrl.jepa.data.token_table import TokenTable
from jepa_hrl.jepa.trainer import Trainer as JepaTrainer
from jepa_hrl.objects.tokens import GRID_FIELDS, MAX_OBJECTS, OBJECT_FIELDS
from rlan.config import RlanConfig
from rlan.data.queries import Inputs
from rlan.losses import equivariance as equivariance_module
from rlan.losses.equivariance import answer_loss, magnitude_loss
from rlan.losses.objective import Targets, cell_weights, task_loss, total_loss
from rlan.model.rlan import Rlan

GIB = 2**30
FRAGMENTATION = 1.05  # assumed: what CUDA's caching allocator holds over what is in use
CONTEXT = 0.75 * GIB  # assumed: CUDA's context, cuBLAS's and cuDNN's workspaces
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_JEPA_TASKS = (4, 8, 12)  # sizes of the measured batches


@dataclass(frozen=True)
class Estimate:
    """Bytes on one GPU.

    Attributes:
        recipe: folder and name.
        batch: samples of one forward pass on one GPU.
        parts: forward passes of an optimiser step.
        weights: of the network and its averaged or target copy.
        gradients: of the weights.
        optimizer: state of the optimiser.
        tables: what else stays from step to step.
        saved: what the forward pass leaves for the backward pass.
        transient: largest number of bytes alive at once beside those that stay from step to step, gradients included.
    """

    recipe: str
    batch: int
    parts: int
    weights: int
    gradients: int
    optimizer: int
    tables: int
    saved: int
    transient: int

    @property
    def peak(self) -> int:
        """Largest sum of all that is alive during a step."""
        earlier = self.gradients if self.parts > 1 else 0  # of earlier parts, beside those that the last part adds
        return self.weights + self.optimizer + self.tables + self.transient + earlier

    @property
    def needed(self) -> float:
        """What a card must have for this peak."""
        return FRAGMENTATION * self.peak + CONTEXT


def build_fake(model: nn.Module) -> nn.Module:
    """Moves a model's parameters and buffers to fake CUDA tensors, inside `fake_cuda`, and returns it for training."""
    return model.to_empty(device="cuda").train()


def parameter_bytes(model: nn.Module) -> int:
    """Returns the bytes of a model's parameters."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def measure_step(memory: fake_cuda.MemoryCounter, forward: Callable[[], Tensor]) -> tuple[int, int]:
    """Runs the forward and backward pass of a step.

    Args:
        memory: counter of the device that the step runs on.
        forward: returns the loss.
    Returns:
        saved: bytes that the forward pass leaves.
        transient: largest number of bytes alive at once beyond those before the step.
    """
    start = memory.peak = memory.now
    loss = [forward()]
    saved = memory.now - start
    fake_cuda.backward(loss.pop)
    return saved, memory.peak - start


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float()


def estimate_hrm(recipe: str, config: HrmConfig, gpus: int) -> Estimate:
    """Estimates a segment of HRM, TRM or the transformer with its backward pass.

    Args:
        recipe: name for the table.
        config: of the run.
        gpus: that share a batch.
    """
    model_config, training, data = config.model, config.training, config.data
    batch, cells, dim = training.batch_size // gpus, MAX_SIDE**2, model_config.hidden_size
    dtype = _DTYPES[config.precision]
    bare_model = Reasoner(model_config)
    weights = parameter_bytes(bare_model)
    with fake_cuda.fake_cuda() as memory:
        model = build_fake(bare_model)
        assert isinstance(model, Reasoner)
        length = model.prefix_tokens + cells

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device="cuda")

        carried = LatentState(zeros(batch, length, dim, dtype=dtype), zeros(batch, length, dim, dtype=dtype))
        is_moved = data.translation and data.canvas != "full"
        positions = zeros(batch if is_moved else 1, length, dtype=torch.int64)
        tokens, labels = zeros(batch, cells, dtype=torch.uint8), zeros(batch, cells, dtype=torch.int64)
        puzzles = zeros(batch, model_config.puzzle_emb_ndim).requires_grad_() if model_config.puzzle_emb_ndim else None
        inputs = Batch(tokens, labels, zeros(batch, dtype=torch.int64), positions)
        autocast = torch.autocast("cuda", dtype, enabled=dtype != torch.float32)
        held: list[LatentState] = []  # the trainer's, until the step ends

        def forward() -> Tensor:
            state = reset_halted(model, carried, zeros(batch, dtype=torch.bool))
            with autocast:
                next_state, output = model(state, tokens, puzzles, positions)
            # Fabric gives the outputs of a module back in float32.
            next_state, output = LatentState(*map(_widen, next_state)), SegmentOutput(*map(_widen, output))
            held.extend((state, next_state))
            with autocast:
                target = q_continue_target(model, next_state, inputs, puzzles, zeros(batch))
            return segment_losses(output, labels, target, training.loss_type).total / batch

        saved, transient = measure_step(memory, forward)
    sides = (MAX_SIDE,) if data.canvas == "full" else CANVASES
    positions_carried = sum(bare_model.prefix_tokens + side**2 for side in sides)
    carries = 2 * batch * positions_carried * dim * dtype.itemsize
    tasks = len(load_tasks(data.train))
    embeddings = (1 + tasks * (1 + data.num_augmentations)) * model_config.puzzle_emb_ndim * 4
    copies, optimizer = 2 if training.ema_decay is not None else 1, (3 if gpus > 1 else 2) * weights
    return Estimate(
        recipe, batch, training.gradient_accumulation_steps, copies * weights, weights, optimizer,
        carries + embeddings, saved, transient,
    )  # fmt: skip


def _upload_nothing(arrays: Sequence[npt.NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Stands for `arc_core.transfer.upload`: zeros, since a fake tensor has no memory to copy an array into."""
    return [torch.zeros(array.shape, dtype=torch.int64, device=device) for array in arrays]


def estimate_rlan(recipe: str, config: RlanConfig, gpus: int) -> Estimate:
    """Estimates the passes of one part of RLAN's step, auxiliary losses included, with one backward pass.

    Args:
        recipe: name for the table.
        config: of the run.
        gpus: that share a batch.
    """
    training, equivariance = config.training, config.equivariance_training
    batch, side, demos = training.batch_size // gpus, MAX_SIDE, config.data.max_demonstrations
    dtype = _DTYPES[config.precision]
    bare_model = Rlan(config.model)
    weights = parameter_bytes(bare_model)
    with fake_cuda.fake_cuda() as memory, patch.object(equivariance_module, "upload", _upload_nothing):
        model = build_fake(bare_model)
        assert isinstance(model, Rlan)

        def full(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.ones(*shape, dtype=dtype, device="cuda")

        def draw_inputs(shown: int) -> Inputs:
            grids = full(batch, shown, 2, side, side, dtype=torch.uint8)
            mask, sizes = full(batch, shown, dtype=torch.bool), full(batch, 2)
            return Inputs(full(batch, side, side, dtype=torch.uint8), sizes, sizes, grids,
                          full(batch, shown, 2, 2), mask)  # fmt: skip

        targets = Targets(full(batch, side, side, dtype=torch.uint8), full(batch, 2), full(batch))
        sizes, elements = np.full((batch, 2), side), np.ones(batch, dtype=np.int64)
        autocast = torch.autocast("cuda", dtype, enabled=dtype != torch.float32)

        def forward() -> Tensor:
            inputs = draw_inputs(demos)
            with autocast:
                outputs = model(inputs)
            total = total_loss(
                outputs, targets, inputs.answer_extent, inputs.query_size, training, outputs.predicates
            ).total
            with autocast:
                if config.loo_training.enabled:
                    logits = model(draw_inputs(max(1, demos - 1))).logits[:, -1:]
                    cells = cell_weights(targets, inputs.answer_extent, training.far_outside_weight)
                    form = (training.loss_mode, training.focal_alpha, training.focal_gamma)
                    total = total + task_loss(logits, targets, cells, *form).mean()
                for copy in range(equivariance.num_augmentations if equivariance.enabled else 0):
                    turned = draw_inputs(demos)
                    if copy:
                        total = total + magnitude_loss(outputs.deltas, model.predict_deltas(turned))
                        continue
                    answers = model(turned)
                    total = total + magnitude_loss(outputs.deltas, answers.deltas)
                    total = total + answer_loss(outputs.logits[:, -1], answers.logits[:, -1], sizes, elements)
            return total

        saved, transient = measure_step(memory, forward)
    copies, optimizer = 2 if training.ema_decay is not None else 1, (3 if gpus > 1 else 2) * weights
    return Estimate(
        recipe, batch, training.grad_accumulation_steps, copies * weights, weights, optimizer,
        0, saved, transient,
    )  # fmt: skip


def draw_jepa_data(tasks: int, pairs: int) -> JepaData:
    """Draws tokens of tasks whose every grid has the most objects that a grid may have.

    Args:
        tasks: number of tasks.
        pairs: of each task.
    """
    rng = np.random.default_rng(0)
    grids = 2 * pairs * tasks
    table = TokenTable(
        rng.random((grids * MAX_OBJECTS, OBJECT_FIELDS)).astype(np.float16),
        rng.random((grids, GRID_FIELDS)).astype(np.float16),
        MAX_OBJECTS * np.arange(grids + 1),
        pairs * np.arange(tasks + 1),
        "",
    )
    return JepaData("random tokens", table, np.arange(tasks), np.arange(0))


def measure_jepa(config: JepaConfig, tasks: int, folder: Path) -> tuple[int, int, int]:
    """Runs a step of the JEPA on the CPU in the autocast that its recipe asks for.

    Args:
        config: of the run.
        tasks: number of tasks in the step's one part.
        folder: of the run.
    Returns:
        saved: bytes that the forward pass leaves for the backward pass.
        transient: largest number of bytes alive at once beyond those before the step.
        weights: bytes of the parameters.
    """
    training = dataclasses.replace(config.training, batch_size=tasks, grad_accum_steps=1)
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if config.precision != "float32" else None)
    fabric.launch()
    data = draw_jepa_data(tasks, config.training.pairs_per_task)
    trainer = JepaTrainer(dataclasses.replace(config, training=training), data, RunFolder(folder), fabric)
    trainer.model.queue_place.fill_(len(trainer.model.queue))  # as full as it becomes
    trainer.training_step()  # the optimiser makes its state
    kept: dict[int, tuple[int, torch.UntypedStorage]] = {}
    lasting = {parameter.untyped_storage()._cdata for parameter in trainer.model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in lasting:
            kept[storage._cdata] = (storage.nbytes(), storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        trainer.training_step()
    saved = sum(size for size, _ in kept.values())
    kept.clear()
    with fake_cuda.MemoryCounter("cpu") as memory:
        trainer.training_step()
    return saved, memory.peak, parameter_bytes(trainer.model)


def estimate_jepa(recipe: str, config: JepaConfig, gpus: int) -> Estimate:
    """Estimates one part of the JEPA's step from smaller ones; every term of its memory is at most quadratic in tasks.

    Args:
        recipe: name for the table.
        config: of the run.
        gpus: that share a batch.
    """
    parts = config.training.grad_accum_steps
    batch = config.training.batch_size // parts // gpus
    with tempfile.TemporaryDirectory() as folder:
        measured = [measure_jepa(config, tasks, Path(folder)) for tasks in _JEPA_TASKS]
    saved, transient = (
        int(np.polyval(np.polyfit(_JEPA_TASKS, [row[column] for row in measured], 2), batch)) for column in range(2)
    )
    weights = measured[0][2]
    queue = config.loss.queue_size * config.object_encoder.latent_dim * 4
    optimizer = (3 if gpus > 1 else 2) * weights
    return Estimate(recipe, batch, parts, 2 * weights, weights, optimizer, queue, saved, transient)
