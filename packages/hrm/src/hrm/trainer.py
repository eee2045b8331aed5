"""Training loop of HRM, TRM and the transformer. B global batch."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.compilation import compile_model
from arc_core.config import config_to_dict
from arc_core.distributed import all_gather_blocks
from arc_core.errors import RunFailure
from arc_core.loop import (
    ExponentialAverage,
    GradientStep,
    LossCheck,
    TrainingResult,
    autocast_dtype,
    can_fuse,
    load_optimizer,
    load_scaler,
    require_even_share,
    should_stop,
)
from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from arc_core.runs import TIMING_PREFIX, MetricLog, RunFolder
from arc_core.signals import StopSignals
from arc_core.transfer import Download, upload
from hrm.carry_stream import Carry, CarryStream
from hrm.config import METHOD, HrmConfig
from hrm.data.training_data import TrainingData
from hrm.losses import segment_losses
from hrm.metrics import EvaluationSet, sample_evenly, score_model
from hrm.model.halting import ExplorationNoise, q_continue_target, reset_halted, should_halt
from hrm.model.model_with_embeddings import build_model
from hrm.model.puzzle_embedding import sign_sgd
from hrm.model.reasoner import LatentState, Reasoner
from hrm.optimizers import learning_rate_factor, make_optimizers


class Trainer:
    """The state of one run: weights, optimisers, carries, progress. A checkpoint has all of it that changes."""

    def __init__(self, config: HrmConfig, data: TrainingData, run: RunFolder, fabric: Fabric) -> None:
        """Builds the model, its optimisers and the stream of examples on the fabric's device.

        Args:
            config: of the run.
            data: what to learn and to validate on.
            run: folder of checkpoints and metrics.
            fabric: gives device, precision and processes.
        Raises:
            InputError: the processes cannot share a batch evenly.
        """
        training = config.training
        require_even_share(training.batch_size, fabric)
        self.config, self.data, self.run, self.fabric = config, data, run, fabric
        self.network = build_model(config, data.identities.num_embeddings)
        self.model = self.network.model.to(fabric.device)
        if self.network.embedding is not None:
            self.network.embedding.to(fabric.device)
        self.ema = ExponentialAverage(self.model, training.ema_decay) if training.ema_decay is not None else None
        compiled = cast(Reasoner, compile_model(self.model)) if config.device.compile else self.model
        self.forward, *optimizers = fabric.setup(compiled, *make_optimizers(self.model, training, can_fuse(fabric)))
        self.optimizers: list[torch.optim.Optimizer] = list(optimizers)
        self.gradient_step = GradientStep(fabric, list(self.model.parameters()), self.optimizers)
        self.max_rates = [[float(group["lr"]) for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.full_canvas = config.data.canvas == "full"
        self.stream = CarryStream(data.train, training.batch_size, training.seed, self.full_canvas)
        self.carries: dict[int, Carry] = {}
        self.halting: dict[int, Download] = {}  # which sequences of a carry halt, until it is read
        self.loss_check = LossCheck(fabric)
        self.validation: EvaluationSet | None = None
        if len(data.held_out):
            held_out = sample_evenly(data.held_out, config.validation.max_puzzles)
            self.validation = EvaluationSet.from_examples(data, held_out)
        self.training_data: tuple[str, ...] = (data.spec,)
        self.transductive_ids = data.transductive_ids
        self.step, self.best = 0, cast("tuple[float, ...] | None", None)
        self.validations_without_gain = 0

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.training.max_steps

    def state(self) -> Checkpoint:
        """Returns all that a resumed run needs."""
        for side, carry in self.carries.items():
            self._read_halted(side, carry)
        carries = {str(side): self._gather_carry(carry) for side, carry in self.carries.items()}
        identities = self.data.identities
        return Checkpoint(
            method=METHOD,
            step=self.step,
            model=self.network.state_dict(),
            optimizer={str(index): optimizer.state_dict() for index, optimizer in enumerate(self.optimizers)},
            scheduler={},
            ema=self.ema.state_dict() if self.ema else {},
            extras={
                "carries": carries,
                "stale": self.validations_without_gain,
                "task_ids": list(identities.task_ids),
                "groups": torch.from_numpy(identities.groups),
                "elements": torch.from_numpy(identities.elements),
                "colors": torch.from_numpy(identities.colors),
                "transductive_ids": list(self.transductive_ids),
                "precision": self.fabric.strategy.precision.state_dict(),
            },
            config=config_to_dict(self.config),
            data_fingerprint=self.data.fingerprint,
            training_data=self.training_data,
            best_metric=self.best,
        )

    def load(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of the same config and data."""
        self.network.load(checkpoint.model, f"the checkpoint of step {checkpoint.step}")
        for index, optimizer in enumerate(self.optimizers):
            load_optimizer(optimizer, cast(dict[str, object], checkpoint.optimizer[str(index)]))
        if self.ema:
            self.ema.load_state_dict(checkpoint.ema)
        extras = cast(dict[str, dict[str, dict[str, Tensor]]], checkpoint.extras)
        self.carries = {int(side): self._take_rows(carry) for side, carry in extras["carries"].items()}
        self.halting = {}
        load_scaler(self.fabric, extras["precision"])
        self.validations_without_gain = cast(int, checkpoint.extras["stale"])
        self.transductive_ids = tuple(cast(list[str], checkpoint.extras["transductive_ids"]))
        self.step, self.best, self.training_data = checkpoint.step, checkpoint.best_metric, checkpoint.training_data

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Loads another run's weights, averaged where it has them, and its embeddings if the tasks are the same."""
        same_tasks = checkpoint.data_fingerprint == self.data.fingerprint
        weights = dict(checkpoint.model) | dict(checkpoint.ema)
        self.network.load(weights, f"the checkpoint of step {checkpoint.step}", with_embedding=same_tasks)
        self.training_data = tuple(dict.fromkeys((*checkpoint.training_data, *self.training_data)))
        earlier = cast(list[str], checkpoint.extras["transductive_ids"])
        self.transductive_ids = tuple(dict.fromkeys((*earlier, *self.transductive_ids)))
        if self.ema:
            self.ema.load_state_dict(dict(self.model.named_parameters()))

    def _gather_carry(self, carry: Carry) -> dict[str, object]:
        """Returns the rows of all processes, in the order of the global batch, under the names that checkpoints use."""
        assert carry.state is not None
        z_H, z_L, steps = (all_gather_blocks(part, 1)[0] for part in (*carry.state, carry.steps))
        return {
            "high": z_H, "low": z_L, "steps": steps, "halted": torch.from_numpy(carry.halted),
            "examples": torch.from_numpy(carry.examples), "origins": torch.from_numpy(carry.offsets),
            "taken": carry.examples_drawn,
        }  # fmt: skip

    def _take_rows(self, saved: Mapping[str, Tensor]) -> Carry:
        """Returns this process's rows of a carry that `_gather_carry` gathered."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        device, dtype = self.fabric.device, autocast_dtype(self.fabric)
        z_H, z_L = (saved[name][rank::world].to(device, dtype) for name in ("high", "low"))
        steps = saved["steps"][rank::world].to(device)
        halted, examples, offsets = (saved[name].numpy() for name in ("halted", "examples", "origins"))
        return Carry(LatentState(z_H, z_L), steps, halted, examples, offsets, cast(int, saved["taken"]))

    def train(self, progress: Progress) -> TrainingResult:
        """Trains to the end, a signal, or early stopping; validates, logs and saves on the way."""
        training, cadence = self.config.training, self.config.validation
        is_main = self.fabric.is_global_zero
        with MetricLog(self.run, self.step) if is_main else nullcontext() as log, StopSignals() as signals:
            last_time, last_step = time.perf_counter(), self.step
            while self.step < training.max_steps:
                metrics = self.training_step()
                is_last = self.step == training.max_steps
                validate = self.step % cadence.eval_frequency == 0 or is_last
                if self.step % cadence.log_every_steps == 0 or validate:
                    now = time.perf_counter()
                    parts = training.gradient_accumulation_steps
                    rate = (self.step - last_step) * training.batch_size * parts / (now - last_time)
                    last_time, last_step = now, self.step
                    values = self._average_metrics(metrics) | {f"{TIMING_PREFIX}samples_per_second": rate}
                    memory = ""
                    if self.fabric.device.type == "cuda":
                        peak = torch.cuda.max_memory_allocated() / 2**30
                        values[f"{TIMING_PREFIX}peak_memory_gib"], memory = peak, f"  {peak:.1f} GiB"
                    if log is not None:
                        log.log(self.step, values)
                    progress.update(
                        self.step,
                        f"loss {values['train/loss']:.4f}  token acc {values['train/token_accuracy']:.3f}  "
                        f"exact {values['train/exact_accuracy']:.3f}  lr {values['train/lr']:.1e}  "
                        f"segments {values['train/halt_steps']:.1f}  {rate:.0f} samples/s{memory}",
                    )
                else:
                    progress.update(self.step)
                if validate:
                    self._validate(log, progress)
                    last_time, last_step = time.perf_counter(), self.step
                stop = should_stop(self.fabric, signals)
                every = cadence.checkpoint_frequency
                if (stop or (every and self.step % every == 0)) and not validate:
                    self._save(is_best=False)
                if stop:
                    return TrainingResult(
                        self.step, signals.exit_status, "stopped by a signal; the step was finished and saved"
                    )
                if training.early_stopping and self.validations_without_gain >= training.early_stopping:
                    progress.say(f"no better validation in the last {self.validations_without_gain}; stopping early")
                    break
        return TrainingResult(self.step, 0)

    def training_step(self) -> dict[str, Tensor]:
        """Runs one optimiser step.

        Returns:
            scalar metrics of its last forward pass.
        Raises:
            RunFailure: the loss is not finite.
        """
        training, fabric = self.config.training, self.fabric
        factor = learning_rate_factor(training, self.step)
        for optimizer, max_rates in zip(self.optimizers, self.max_rates, strict=True):
            for group, max_rate in zip(optimizer.param_groups, max_rates, strict=True):
                group["lr"] = max_rate * factor
        parts = training.gradient_accumulation_steps
        row_gradients: list[tuple[Tensor, Tensor]] = []
        for part in range(parts):
            with fabric.no_backward_sync(self.forward, enabled=part < parts - 1):
                metrics, gradients_of_part = self._run_segment(self.step * parts + part)
            if gradients_of_part is not None:
                row_gradients.append(gradients_of_part)
        metrics["lr"] = torch.tensor(training.learning_rate * factor)
        self.gradient_step.unscale()
        metrics["grad_norm"] = self.gradient_step.clip(training.gradient_clip)
        self.gradient_step.update()
        if row_gradients and self.network.embedding is not None:
            identities = all_gather_blocks(torch.cat([ids for ids, _ in row_gradients]), 1)[0]
            gradients = all_gather_blocks(torch.cat([grads for _, grads in row_gradients]), 1)[0].nan_to_num()
            rate = training.puzzle_emb_lr * factor
            sign_sgd(self.network.embedding.weights, identities, gradients, rate, training.puzzle_emb_weight_decay)
        if self.ema:
            self.ema.update(self.step)
        self.step += 1
        return metrics

    def _run_segment(self, micro_step: int) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor] | None]:
        """Runs forward and backward of one segment of one canvas's carry.

        Args:
            micro_step: number of the forward pass, from 0.
        Returns:
            scalar metrics; and rows of the puzzle embedding with their gradients, None where there is no embedding.
        """
        config, fabric, seed = self.config.model, self.fabric, self.config.training.seed
        batch_size, parts = self.config.training.batch_size, self.config.training.gradient_accumulation_steps
        local = slice(fabric.global_rank, None, fabric.world_size)  # rows of this process
        side = self.stream.draw_canvas(micro_step)
        if side not in self.carries:
            self.carries[side] = self.stream.create_carry(batch_size // fabric.world_size, fabric.device)
        carry = self.carries[side]
        self._read_halted(side, carry)
        self.stream.refill(carry, side, micro_step)
        source = self.data.source
        host_arrays = [
            carry.halted[local], carry.offsets[local].copy(), *self._draw_exploration(micro_step, local),
            *source.host_arrays(carry.examples[local], side),
        ]  # fmt: skip
        is_new, offsets, uniform, min_segments, *arrays = upload(host_arrays, fabric.device)
        offset = offsets if self.config.data.translation else None
        batch = source.build(arrays, side, self.model.prefix_tokens, offset)
        state = reset_halted(self.model, carry.state or self.model.initial_state(*batch.tokens.shape), is_new)
        steps = torch.where(is_new, 0, carry.steps) + 1
        embedding = self.network.embedding
        puzzle_embeddings = None if embedding is None else embedding.gather_rows(batch.identities)
        if config.dropout:
            torch.manual_seed(seed_for(seed, f"dropout of rank {fabric.global_rank}", micro_step))
        forward = cast(Reasoner, self.forward)
        next_state, output = forward(state, batch.tokens, puzzle_embeddings, batch.positions)
        target = q_continue_target(forward, next_state, batch, puzzle_embeddings, steps)
        losses = segment_losses(output, batch.labels, target, self.config.training.loss_type)
        mean_loss = losses.total / len(steps)
        self.loss_check.add(mean_loss, self.step + 1, float(self.optimizers[0].param_groups[0]["lr"]))
        fabric.backward(mean_loss / parts)
        halted = should_halt(config, output, steps, ExplorationNoise(uniform, min_segments))
        # The model computes in autocast's type, so a wider carry would hold no more.
        carry.state, carry.steps = LatentState(*(z.to(autocast_dtype(fabric)) for z in next_state)), steps
        if config.halt_max_steps > 1:  # else all halt after every segment, as they do in a new carry
            self.halting[side] = Download(all_gather_blocks(halted, 1)[0])
        count = len(steps)
        metrics = {
            "loss": mean_loss.detach(),
            "lm_loss": losses.lm.detach() / count,
            "q_halt_loss": losses.q_halt.detach() / count,
            "q_continue_loss": losses.q_continue.detach() / count,
            "token_accuracy": losses.token_accuracy.mean(),
            "exact_accuracy": losses.is_exact.float().mean(),
            "q_halt_accuracy": ((output.q_halt > 0) == losses.is_exact).float().mean(),
            "halt_steps": steps.float().mean(),
        }
        if puzzle_embeddings is None or puzzle_embeddings.grad is None:
            return metrics, None
        return metrics, (batch.identities, puzzle_embeddings.grad)

    def _read_halted(self, side: int, carry: Carry) -> None:
        """Lets a carry know which of its sequences halted after their last segment, which the device has decided."""
        if side in self.halting:
            carry.halted = self.halting.pop(side).read()

    def _draw_exploration(self, micro_step: int, local: slice) -> tuple[np.ndarray, np.ndarray]:
        """Draws the noise of the global batch, whatever the number of processes.

        Args:
            micro_step: number of the forward pass, from 0.
            local: rows of this process.
        Returns:
            Its rows of the two parts of `ExplorationNoise`.
        """
        batch_size, max_steps = self.config.training.batch_size, self.config.model.halt_max_steps
        rng = generator_for(self.config.training.seed, "halting", micro_step)
        uniform = rng.random(batch_size)
        min_segments = rng.integers(2, max(2, max_steps), batch_size, endpoint=True)
        return uniform[local], min_segments[local]

    def _average_metrics(self, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        self.loss_check.confirm()
        stacked = torch.stack([value.detach().double().to(self.fabric.device) for value in metrics.values()])
        means = cast(Tensor, self.fabric.all_reduce(stacked))
        return {f"train/{name}": value for name, value in zip(metrics, means.tolist(), strict=True)}

    def score(self, evaluation_set: EvaluationSet) -> dict[str, float]:
        """Scores the model as it would be used: averaged weights if there are any, evaluation mode, no gradients."""
        self.model.eval()
        try:
            with self.fabric.autocast(), self.ema.average_parameters() if self.ema else nullcontext():
                return score_model(self.model, self.network.embedding, self.data, evaluation_set, self.full_canvas)
        finally:
            self.model.train()

    def _validate(self, log: MetricLog | None, progress: Progress) -> None:
        is_best = False
        if self.validation is not None:
            metrics = self.score(self.validation)
            if log is not None:
                log.log(self.step, {f"val/{name}": value for name, value in metrics.items()})
            accuracies = (metrics["exact_accuracy"], metrics["token_accuracy"])
            is_best = self.best is None or accuracies > self.best
            self.validations_without_gain = 0 if is_best else self.validations_without_gain + 1
            self.best = accuracies if is_best else self.best
            summary = "  ".join(f"{name.removesuffix('_accuracy')} {value:.3f}" for name, value in metrics.items())
            progress.say(f"step {self.step}  held-out views: {summary}{'  (best so far)' if is_best else ''}")
        self._save(is_best)

    def _save(self, is_best: bool) -> None:
        self.loss_check.confirm()
        state = self.state()  # gathers the carries, so every process takes part
        if self.fabric.is_global_zero:
            save_checkpoint(self.run.checkpoints, state, is_best, self.config.validation.keep_last)
        self.fabric.barrier()


def out_of_memory_advice(config: HrmConfig) -> RunFailure:
    """Returns the failure that says what to do when a batch does not fit. Source: the infrastructure guide's list."""
    training = config.training
    return RunFailure(
        f"the device ran out of memory; halve training.batch_size (it is {training.batch_size}) and double "
        f"training.gradient_accumulation_steps (it is {training.gradient_accumulation_steps}), set "
        f"model.gradient_checkpointing to true, or reduce model.hidden_size or the layers; --find-batch-size shows "
        f"what fits"
    )
