"""Trains RLAN: the loop, its optimiser step, validation and checkpoints."""

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.augment import NUM_DIHEDRAL
from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.compilation import compile_model
from arc_core.config import config_to_dict
from arc_core.errors import RunFailure
from arc_core.loop import (
    ExponentialAverage,
    GradientStep,
    LossCheck,
    TrainingResult,
    can_fuse,
    load_optimizer,
    load_scaler,
    make_schedule,
    require_even_share,
    should_stop,
)
from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from arc_core.runs import TIMING_PREFIX, MetricLog, RunFolder
from arc_core.signals import StopSignals
from arc_core.tensors import TaskTensors
from rlan.collapse import EXIT_COLLAPSED, CollapseGuard, likely_cause
from rlan.config import METHOD, RlanConfig, TrainingConfig
from rlan.data.queries import QuerySampler
from rlan.data.task_split import Split
from rlan.health import HealthMonitor
from rlan.losses.auxiliary_losses import compute_auxiliary_losses
from rlan.losses.objective import Losses, build_training_batch, total_loss, uses_stablemax
from rlan.metrics import ScoredTasks, evaluate_model
from rlan.model.hyperlora import widen
from rlan.model.rlan import Rlan, load_weights, rename_former_parameters


def build_model(config: RlanConfig) -> Rlan:
    """Builds a model with the initial weights of the config's seed; the global random state stays as it was."""
    with torch.random.fork_rng(devices=()):  # the weights are made on the CPU
        torch.default_generator.manual_seed(seed_for(config.training.seed, "weights", 0))
        return Rlan(config.model)


class Trainer:
    """The state of one training run; `train` runs it, `state` and `load` save and restore all that changes."""

    def __init__(self, config: RlanConfig, split: Split, run: RunFolder, fabric: Fabric) -> None:
        """Builds the model, the optimiser and the data on the fabric's device.

        Args:
            config: the run's config.
            split: training and held-out tasks.
            run: folder for checkpoints and metrics.
            fabric: device, precision and processes.
        Raises:
            InputError: the processes cannot share a batch evenly.
        """
        training = config.training
        self.config, self.split, self.run, self.fabric = config, split, run, fabric
        require_even_share(training.batch_size, fabric)
        self.model = build_model(config).to(self.fabric.device)
        self.average = ExponentialAverage(self.model, training.ema_decay) if training.ema_decay is not None else None
        optimizer = torch.optim.AdamW(
            _parameter_groups(self.model, training),
            training.learning_rate,
            weight_decay=training.weight_decay,
            fused=can_fuse(fabric),
        )
        compiled = cast(Rlan, compile_model(self.model)) if config.device.compile else self.model
        self.forward, self.optimizer = self.fabric.setup(compiled, optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.gradient_step = GradientStep(fabric, parameters, [self.optimizer])
        tensors = TaskTensors.from_tasks(split.train, self.fabric.device)
        self.sampler = QuerySampler(
            tensors, config.data, training.batch_size * training.grad_accumulation_steps, training.seed
        )
        self.plan = self.sampler.plan
        self.total_steps = training.max_epochs * self.plan.steps_per_epoch
        self.schedule = make_schedule(self.optimizer, training.scheduler, self.total_steps, training.warmup_fraction)
        self.stablemax = uses_stablemax(training.loss_mode)
        self.validation = ScoredTasks.from_tasks(split.held_out, self.fabric.device) if split.held_out else None
        order = generator_for(0, "scored training tasks", 0).permutation(len(split.train))
        scored_indices = sorted(order[: config.validation.train_tasks].tolist())
        self.scored_training = ScoredTasks.from_tasks(
            [split.train[index] for index in scored_indices], self.fabric.device
        )
        self.training_data: tuple[str, ...] = (config.data.train,)
        self.step = 0
        self.best: tuple[float, ...] | None = None
        first_stop = torch.sigmoid(torch.tensor(config.model.stop_bias)).item() if config.model.use_dsc else None
        self.guard = CollapseGuard()
        self.health = HealthMonitor(
            first_stop_probability=first_stop, hyperlora_max_norm=config.model.hyperlora_max_norm
        )
        self.recent_means: dict[str, float] = {}
        self.auxiliary_metrics: dict[str, float] = {}
        self.loss_check = LossCheck(fabric)
        self._unread: list[dict[str, Tensor | float]] = []  # metrics of steps that are not in `recent_means` yet

    def state(self) -> Checkpoint:
        """Returns everything that a resumed run needs, for a checkpoint."""
        self._read_metrics()
        return Checkpoint(
            method=METHOD,
            step=self.step,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler=_loadable_state(self.schedule.state_dict()),
            ema=self.average.state_dict() if self.average else {},
            extras={"guard": asdict(self.guard), "watch": asdict(self.health), "recent": self.recent_means}
            | {"precision": self.fabric.strategy.precision.state_dict()},
            config=config_to_dict(self.config),
            data_fingerprint=self.split.fingerprint,
            training_data=self.training_data,
            best_metric=self.best,
        )

    def load(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of the same config and data."""
        load_weights(self.model, checkpoint, averaged=False)
        load_optimizer(self.optimizer, checkpoint.optimizer)
        self.schedule.load_state_dict(dict(checkpoint.scheduler))
        if self.average:
            self.average.load_state_dict(rename_former_parameters(checkpoint.ema))
        extras = cast(dict[str, dict[str, object]], checkpoint.extras)
        self.guard = CollapseGuard(**cast(dict[str, int], extras["guard"]))
        self.health = HealthMonitor(**extras["watch"])  # type: ignore[arg-type]  # its own asdict
        self.recent_means = dict(cast(dict[str, float], extras["recent"]))
        load_scaler(self.fabric, extras["precision"])
        self.step, self.best, self.training_data = checkpoint.step, checkpoint.best_metric, checkpoint.training_data

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Starts from another run's weights, averaged where it has averages, and records what they were trained on."""
        load_weights(self.model, checkpoint, averaged=True)
        self.training_data = tuple(dict.fromkeys((*checkpoint.training_data, *self.training_data)))
        if self.average:
            self.average.load_state_dict(dict(self.model.named_parameters()))

    def train(self, progress: Progress) -> TrainingResult:
        """Trains until the last step, a signal or a collapse; validates, logs and saves on the way."""
        is_main = self.fabric.is_global_zero
        with MetricLog(self.run, self.step) if is_main else nullcontext() as log, StopSignals() as signals:
            rate_time, rate_step = time.perf_counter(), self.step
            while self.step < self.total_steps:
                losses, grad_norm, dsc_norm = self.training_step()
                epoch, rest = divmod(self.step, self.plan.steps_per_epoch)
                validate = (rest == 0 and epoch % self.config.validation.every_epochs == 0) or self._is_last_step
                if self.step % self.config.validation.log_every_steps == 0 or validate:
                    now = time.perf_counter()
                    rate = (self.step - rate_step) * self.sampler.batch_size / (now - rate_time)
                    rate_time, rate_step = now, self.step
                    metrics = self._training_metrics(losses, grad_norm, dsc_norm, rate)
                    if log is not None:
                        log.log(self.step, metrics)
                    progress.update(self.step, f"epoch {epoch}  loss {losses.task.item():.4f}  {rate:.0f} samples/s")
                else:
                    progress.update(self.step)
                if validate:
                    self._validate(log, progress, epoch)
                    rate_time, rate_step = time.perf_counter(), self.step
                stop = should_stop(self.fabric, signals)
                every = self.config.validation.save_every_steps
                if (stop and not validate) or (every and self.step % every == 0 and not validate):
                    self._save(is_best=False)
                if self.guard.fired:
                    return TrainingResult(self.step, EXIT_COLLAPSED, self._collapse_message())
                if stop:
                    return TrainingResult(
                        self.step, signals.exit_status, "stopped by a signal; the step was finished and saved"
                    )
        return TrainingResult(self.step, 0)

    @property
    def _is_last_step(self) -> bool:
        return self.step == self.total_steps

    def training_step(self) -> tuple[Losses, Tensor, Tensor]:
        """Does one optimiser step.

        Returns:
            losses: losses of the last forward pass.
            grad_norm: gradient norm before clipping.
            dsc_grad_norm: gradient norm of DSC alone, nan without DSC.
        Raises:
            RunFailure: the loss is not finite.
        """
        training, fabric = self.config.training, self.fabric
        epoch, rows = self.plan.batch(self.step, fabric.global_rank, fabric.world_size)
        queries = self.sampler.epoch_queries(epoch).select(rows)
        # Drawn for the global batch, so that they are the same whatever the number of processes and parts.
        draws = generator_for(training.seed, "meta", self.step).random((self.sampler.batch_size, NUM_DIHEDRAL))
        draws = draws[fabric.global_rank :: fabric.world_size]
        parts = training.grad_accumulation_steps
        models = (self.forward, self.model)
        is_logged = (self.step + 1) % self.config.validation.log_every_steps == 0
        for part in range(parts):
            # Rows of a batch are in order of size, so consecutive ones make the parts with the least padding.
            index = np.array_split(np.arange(len(queries)), parts)[part]
            share = queries.select(index).trim_padding()
            inputs, targets = build_training_batch(self.sampler.tensors, share)
            with fabric.no_backward_sync(self.forward, enabled=part < parts - 1):
                outputs = self.forward(inputs)
                predicates = self._gather_predicates(outputs.predicates)
                losses = total_loss(outputs, targets, inputs.answer_extent, inputs.query_size, training, predicates)
                with fabric.autocast():
                    auxiliary_loss, auxiliary_metrics = compute_auxiliary_losses(
                        self.config, models, self.sampler.tensors, share, outputs, draws[index], is_logged
                    )
                total = losses.total + auxiliary_loss
                self.loss_check.add(total, self.step + 1, float(self.schedule.get_last_lr()[0]))
                fabric.backward(total / parts)
        self.gradient_step.unscale()
        dsc_norm = self._dsc_grad_norm()
        grad_norm = self.gradient_step.clip(training.gradient_clip)
        self.gradient_step.update()
        self.schedule.step()
        if self.average:
            self.average.update(self.step)
        self.step += 1
        named = {"task_loss": losses.task, "first_step_loss": losses.first_step, "dsc_grad_norm": dsc_norm}
        self._unread.append({**{name: value.detach() for name, value in named.items()}, **auxiliary_metrics})
        if fabric.device.type == "cpu":  # elsewhere the host would wait for the device
            self._read_metrics()
        return losses, grad_norm, dsc_norm

    def _read_metrics(self) -> None:
        """Checks the losses of the steps since the last call and adds their metrics to the running means."""
        self.loss_check.confirm()
        unread, self._unread = self._unread, []
        scalars = [value for metrics in unread for value in metrics.values() if isinstance(value, Tensor)]
        values = iter(torch.stack([widen(scalar) for scalar in scalars]).tolist() if scalars else [])
        for metrics in unread:
            numbers = {n: next(values) if isinstance(value, Tensor) else value for n, value in metrics.items()}
            self._update_recent_means(numbers)
            names = ("task_loss", "first_step_loss", "dsc_grad_norm")
            self.auxiliary_metrics = {name: value for name, value in numbers.items() if name not in names}

    def _gather_predicates(self, predicates: Tensor | None) -> Tensor | None:
        """Gathers the predicates of all processes, since their correlation is not a mean over processes."""
        if predicates is None or self.fabric.world_size == 1:
            return predicates
        return cast(Tensor, self.fabric.all_gather(predicates, sync_grads=True)).flatten(0, 1)

    def _update_recent_means(self, values: Mapping[str, float]) -> None:
        """Updates running means over about 100 steps, for warnings for which one batch is too little evidence."""
        for name, value in values.items():
            mean = self.recent_means.get(name)
            self.recent_means[name] = value if mean is None else 0.99 * mean + 0.01 * value
        self.recent_means.setdefault("start_loss", self.recent_means["task_loss"])

    def _dsc_grad_norm(self) -> Tensor:
        """Returns the gradient norm of DSC's parameters; nan without DSC."""
        if self.model.saliency is None:
            return torch.full((), math.nan, device=self.fabric.device)
        grads = [p.grad for p in self.model.saliency.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(grads)

    def _training_metrics(self, losses: Losses, grad_norm: Tensor, dsc_norm: Tensor, rate: float) -> dict[str, float]:
        """Returns the metrics to log, means over processes; `rate` is in samples per second."""
        self._read_metrics()
        named = {
            "total_loss": losses.total,
            "focal_loss": losses.task,
            "first_step_loss": losses.first_step,
            "deep_supervision_loss": losses.deep_supervision,
            "entropy_loss": losses.entropy,
            "sparsity_loss": losses.sparsity,
            "centroid_diversity_loss": losses.centroid_diversity,
            "predicate_loss": losses.predicate,
            "grad_norm": grad_norm,
            "dsc_grad_norm": dsc_norm,
        }
        means = self.fabric.all_reduce(torch.stack([value.detach().float() for value in named.values()]))
        metrics = {f"train/{name}": value for name, value in zip(named, cast(Tensor, means).tolist(), strict=True)}
        metrics |= {f"train/{name}": value for name, value in self.auxiliary_metrics.items()}
        metrics["train/lr"] = float(self.schedule.get_last_lr()[0])
        metrics["train/epoch"] = self.step / self.plan.steps_per_epoch
        metrics[f"{TIMING_PREFIX}samples_per_second"] = rate
        if self.fabric.device.type == "cuda":
            metrics[f"{TIMING_PREFIX}peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return metrics

    def score(self, scored: ScoredTasks) -> dict[str, float]:
        """Scores the model as it would be used: in evaluation mode, with the averaged weights if there are any."""
        self.model.eval()
        try:
            limit = self.config.data.max_demonstrations
            with self.fabric.autocast():
                if self.average is None:
                    return evaluate_model(self.model, scored, limit, self.stablemax)
                with self.average.average_parameters():
                    return evaluate_model(self.model, scored, limit, self.stablemax)
        finally:
            self.model.train()

    def _validate(self, log: MetricLog | None, progress: Progress, epoch: int) -> None:
        """Scores the model, logs the metrics, saves a checkpoint, and prints warnings of collapse and bad health."""
        self._read_metrics()
        train = self.score(self.scored_training)
        held_out = self.score(self.validation) if self.validation else train
        metrics = {f"train/{name}": value for name, value in train.items()}
        if self.validation:
            metrics |= {f"val/{name}": value for name, value in held_out.items()}
        if log is not None:
            log.log(self.step, metrics)
        rank = (held_out["task_accuracy"], held_out["pixel_accuracy"])
        is_best = self.best is None or rank > self.best
        if is_best:
            self.best = rank
        warning = self.guard.check(held_out, epoch)
        signs = self.health.check(held_out, self.recent_means, epoch)
        self._save(is_best)
        shown = "  ".join(
            f"{name} task {m['task_accuracy']:.3f} pixel {m['pixel_accuracy']:.3f} non-bg {m['non_bg_accuracy']:.3f}"
            for name, m in (("train", train), ("held-out", held_out))[: 2 if self.validation else 1]
        )
        progress.say(f"epoch {epoch}  step {self.step}  {shown}{'  (best so far)' if is_best else ''}")
        for line in ([warning] if warning else []) + [f"[WARNING] {sign}" for sign in signs]:
            progress.say(line)

    def _save(self, is_best: bool) -> None:
        self._read_metrics()
        if self.fabric.is_global_zero:
            save_checkpoint(self.run.checkpoints, self.state(), is_best, self.config.validation.keep_last)
        self.fabric.barrier()

    def _collapse_message(self) -> str:
        """Returns the message of a run that ends in collapse, with its likely cause."""
        rose = self.recent_means["task_loss"] > self.recent_means["start_loss"]
        views = self.config.data.augmentation
        last = self.score(self.validation or self.scored_training)
        cause = likely_cause(last, self.config.training.focal_alpha, views.color_permutation, rose)
        return f"background collapse in 5 validations in a row; the run is saved. Likely cause: {cause}"


def _parameter_groups(model: Rlan, training: TrainingConfig) -> list[dict[str, object]]:
    """Returns the optimiser's parameter groups: HyperLoRA's learning rate is a multiple of that of the rest."""
    hyperlora = list(model.hyperlora.parameters()) if model.hyperlora is not None else []
    hyperlora_ids = {id(parameter) for parameter in hyperlora}
    groups: list[dict[str, object]] = [{"params": [p for p in model.parameters() if id(p) not in hyperlora_ids]}]
    if hyperlora:
        groups.append({"params": hyperlora, "lr": training.learning_rate * training.hyperlora_lr_multiplier})
    return groups


def _loadable_state(state: Mapping[str, object]) -> dict[str, object]:
    """Drops from a scheduler's state what `weights_only` loading refuses; OneCycleLR stores a function."""
    return {key: value for key, value in state.items() if isinstance(value, int | float | str | bool | list | None)}


def out_of_memory_advice(config: RlanConfig) -> RunFailure:
    """Returns the error to raise when a batch does not fit in memory, with the keys to change."""
    training = config.training
    return RunFailure(
        f"the device ran out of memory; halve training.batch_size (it is {training.batch_size}) and double "
        f"training.grad_accumulation_steps (it is {training.grad_accumulation_steps}) for the same result"
    )
