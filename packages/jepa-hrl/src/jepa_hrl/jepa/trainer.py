"""The training loop of the JEPA. B pairs of this process's share of a batch, D latent channels."""

import copy
from collections.abc import Iterable, Mapping
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.config import config_to_dict
from arc_core.distributed import all_gather_blocks, all_gather_ordered
from arc_core.epochs import EpochRecord, EpochTrainer, link_epoch
from arc_core.errors import InputError, RunFailure
from arc_core.loop import LossCheck, can_fuse, load_optimizer, load_scaler, require_even_share
from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from arc_core.runs import MetricLog, RunFolder
from jepa_hrl.jepa.collapse import collapse_advice
from jepa_hrl.jepa.config import METHOD, JepaConfig
from jepa_hrl.jepa.data.batches import DeviceTable, Integers, draw_pairs, epoch_order, make_batch
from jepa_hrl.jepa.data.dataset import JepaData
from jepa_hrl.jepa.epoch_files import write_epoch_files
from jepa_hrl.jepa.losses.objective import Objective
from jepa_hrl.jepa.model.jepa import Jepa
from jepa_hrl.jepa.validation import Validation


class Trainer(EpochTrainer):
    """The state of one run and its optimiser steps; a checkpoint holds all of the state that changes."""

    unit = "tasks"
    loss_metric, accuracy_metric = "loss/total", "train/retrieval_top1"
    config: JepaConfig

    def __init__(self, config: JepaConfig, data: JepaData, run: RunFolder, fabric: Fabric) -> None:
        """Builds the networks, the target encoder and the optimiser on the fabric's device.

        Raises:
            InputError: the processes cannot share a batch evenly, or there are fewer tasks than a batch holds.
        """
        training = config.training
        self.micro_batch = training.batch_size // training.grad_accum_steps
        require_even_share(self.micro_batch, fabric)
        if len(data.learnt) < training.batch_size:
            raise InputError(
                f"training.batch_size must be at most the {len(data.learnt)} tasks to learn from; "
                f"got {training.batch_size}"
            )
        self.config, self.data, self.run, self.fabric = config, data, run, fabric
        self.steps_per_epoch = len(data.learnt) // training.batch_size
        self.total_steps = self.steps_per_epoch * training.epochs
        self.batch_size, self.log_every = training.batch_size, config.validation.log_every_steps
        torch.manual_seed(seed_for(training.seed, "jepa weights", 0))
        self.model = Jepa(config)
        self.model.encoder.fit_inputs(torch.from_numpy(data.table.objects), torch.from_numpy(data.table.grids))
        self.model.to(fabric.device)
        self.target = copy.deepcopy(self.model.encoder).eval().requires_grad_(False)
        optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad],
            config.optimizer.lr, weight_decay=config.optimizer.weight_decay, betas=(0.9, 0.95),
            fused=can_fuse(fabric),
        )  # fmt: skip
        self.forward, self.optimizer = fabric.setup(self.model, optimizer)
        self.table = DeviceTable(data.table, fabric.device)
        self.validation = Validation(self.table, data.held_out[: config.validation.max_tasks])
        self.objective = Objective(config, fabric)
        self.training_data: tuple[str, ...] = (data.spec,)
        self.step, self.record = 0, EpochRecord()
        self.loss_check = LossCheck(fabric)

    def state(self) -> Checkpoint:
        """Returns the checkpoint of the current step, with all that a resumed run needs."""
        return Checkpoint(
            method=METHOD,
            step=self.step,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler={},
            ema=self.target.state_dict(),
            extras={
                "record": self.record.state_dict(),
                "steps_per_epoch": self.steps_per_epoch,
                "precision": self.fabric.strategy.precision.state_dict(),
            },
            config=config_to_dict(self.config),
            data_fingerprint=self.data.table.fingerprint,
            training_data=self.training_data,
            best_metric=None if self.record.best is None else (-self.record.best,),
        )

    def load(self, checkpoint: Checkpoint) -> None:
        """Restores a checkpoint of the same config and data."""
        self.model.load_state_dict(dict(checkpoint.model))
        self.target.load_state_dict(dict(checkpoint.ema))
        load_optimizer(self.optimizer, checkpoint.optimizer)
        extras = cast(dict[str, dict[str, object]], checkpoint.extras)
        load_scaler(self.fabric, extras["precision"])
        self.record.load_state_dict(extras["record"])
        self.step, self.training_data = checkpoint.step, checkpoint.training_data

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Starts from another run's weights, with an empty queue.

        Raises:
            InputError: the weights are of networks of other sizes.
        """
        weights = {name: value for name, value in checkpoint.model.items() if not name.startswith("queue")}
        try:
            self.model.load_state_dict(weights, strict=False)
            self.target.load_state_dict(dict(checkpoint.ema))
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(f"--init-from needs weights of the same object_encoder: {reason}") from None
        self.training_data = tuple(dict.fromkeys((*checkpoint.training_data, *self.training_data)))

    def early_stop_reason(self) -> str:
        """Returns why training should end early: no better validation loss for as long as the config allows."""
        stopping, stale = self.config.training.early_stopping, self.record.stale
        if stopping.enabled and stale >= stopping.patience:
            return f"no better validation in {stale} epochs; stopping early"
        return ""

    def training_step(self) -> Mapping[str, Tensor | float]:
        """Takes one optimiser step and returns its metrics, means over its parts and all processes.

        Raises:
            RunFailure: the loss is not finite.
        """
        config, fabric = self.config, self.fabric
        rate = config.optimizer.lr * self.learning_rate_factor(config.optimizer.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        epoch, within = divmod(self.step, self.steps_per_epoch)
        order = self.data.learnt[epoch_order(config.training.seed, epoch, len(self.data.learnt))]
        parts, part_metrics = config.training.grad_accum_steps, []
        for part in range(parts):
            first = within * config.training.batch_size + part * self.micro_batch
            with fabric.no_backward_sync(self.forward, enabled=part < parts - 1):
                tasks = order[first : first + self.micro_batch]
                part_metrics.append(self._backward_part(tasks, self.step * parts + part, parts))
        if config.optimizer.gradient_clip:
            limit = config.optimizer.gradient_clip
            fabric.clip_gradients(self.forward, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._update_target()
        self.step += 1
        quantizer, encoder = self.model.encoder.quantizer, config.object_encoder
        refreshed = 0
        if quantizer is not None and self.step % encoder.vq_refresh_interval == 0:
            choice = torch.Generator().manual_seed(seed_for(config.training.seed, "refresh", self.step))
            threshold = encoder.vq_refresh_usage_threshold if encoder.vq_refresh_enabled else None
            refreshed = quantizer.close_window(all_gather_ordered(*self._objects), threshold, choice)
        rows = [torch.stack([value.detach().double() for value in values.values()]) for values in part_metrics]
        means = cast(Tensor, fabric.all_reduce(torch.stack(rows).mean(dim=0)))
        metrics: dict[str, Tensor | float] = dict(zip(part_metrics[0], means.unbind(), strict=True))
        if quantizer is not None:
            metrics |= {"diagnostics/vq/usage_ratio": quantizer.usage.clone(), "diagnostics/vq/refreshed": refreshed}
        return metrics | {"optimizer/lr": rate, "loss/temperature": self.model.temperature.detach().clone()}

    def record_step(self, metrics: Mapping[str, float]) -> None:
        """Adds a step's loss to the record of the epoch."""
        self.record.add(metrics["loss/total"])

    def _backward_part(self, tasks: Integers, micro_step: int, parts: int) -> dict[str, Tensor]:
        """Computes one part of a batch, forward and backward, and returns its metrics.

        Args:
            tasks: indices of the part's tasks, over all processes.
            micro_step: index of the part among those of all steps.
            parts: of a step, by which the gradient is divided.
        """
        config, fabric, seed = self.config, self.fabric, self.config.training.seed
        rng = generator_for(seed, "jepa batch", micro_step)
        sample = draw_pairs(self.data.table, tasks, config.training.pairs_per_task, rng)
        share = slice(fabric.global_rank, None, fabric.world_size)
        batch = make_batch(self.table, sample, config.augmentations, rng, share)
        predicted = cast(Jepa, self.forward)(batch.tokens, batch.tasks)
        with torch.no_grad():
            latents = predicted.outputs.detach()
            if config.loss.target == "ema":
                with fabric.autocast():
                    latents = self.target(batch.targets).latents
        keys, targets = all_gather_blocks(latents, block=int((sample.tasks == 0).sum()))
        value = self.objective(self.model, batch, predicted, keys, targets, micro_step)
        self.loss_check.add(value.total, self.step + 1, float(self.optimizer.param_groups[0]["lr"]))
        fabric.backward(value.total / parts)
        self.model.enqueue(keys)
        self._objects = predicted.encoded.objects.detach(), batch.global_owners
        losses = {f"loss/{name}": loss for name, loss in (value.terms | {"total": value.total}).items()}
        return losses | {"train/retrieval_top1": value.retrieval_top1}

    @torch.no_grad()
    def _update_target(self) -> None:
        """Moves the target encoder's weights towards the context encoder's and copies its buffers."""
        decay = self.config.loss.target_decay if self.config.loss.target == "ema" else 0.0
        averages: list[Tensor] = list(self.target.parameters())
        weights: list[Tensor] = list(self.model.encoder.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for copy_buffer, buffer in zip(self.target.buffers(), self.model.encoder.buffers(), strict=True):
            copy_buffer.copy_(buffer)

    def score(self) -> dict[str, float]:
        """Computes the metrics of the held-out tasks; see `Validation.score`."""
        return self.validation.score(self.model, self.target, self.config.loss.target == "ema", self.fabric)

    def end_epoch(self, log: MetricLog | None, progress: Progress) -> None:
        """Validates, logs, warns where latents collapse, and saves."""
        config = self.config
        epoch = self.step // self.steps_per_epoch
        metrics = self.score()
        is_best = self.record.end_epoch(metrics.get("val/loss"), config.training.early_stopping.min_delta)
        quantizer = self.model.encoder.quantizer
        usage = {} if quantizer is None else {"usage_ratio": float(quantizer.usage)}
        if log is not None:
            log.log(self.step, metrics)
        line = f"epoch {epoch}/{config.training.epochs}  loss {self.record.losses[-1]:.4f}"
        isotropy = metrics.get("diagnostics/context/isotropy")
        if isotropy is not None:
            top1 = metrics["val/retrieval_top1"]
            line += f"  validation {metrics['val/loss']:.4f}  top-1 {top1:.3f}  isotropy {isotropy:.2f}"
        if usage:
            line += f"  codes used {usage['usage_ratio']:.2f}"
        progress.say(line)
        if isotropy is not None and 4 * epoch >= config.training.epochs:  # new weights are not spread out yet
            advice = collapse_advice(config, {"isotropy": isotropy} | usage)
            if advice:
                progress.say(advice)
        if self.fabric.is_global_zero:
            write_epoch_files(self.run, config, self.record, epoch, self.step, metrics, usage)
        self.save(is_best)
        if self.fabric.is_global_zero:
            link_epoch(self.run, self.step, epoch)

    def save(self, is_best: bool) -> None:
        """Saves a checkpoint of the current step."""
        if self.fabric.is_global_zero:
            save_checkpoint(self.run.checkpoints, self.state(), is_best, self.config.validation.keep_last)
        self.fabric.barrier()


def out_of_memory_advice(config: JepaConfig) -> RunFailure:
    """Returns the failure that says what to change when a batch does not fit.

    Source: the training guide, "CUDA Out of Memory".
    """
    training, steps = config.training, config.training.grad_accum_steps
    remedies: Iterable[str] = (
        f"training.grad_accum_steps {2 * steps} (it is {steps})", f"training.batch_size {training.batch_size // 2}",
        "training.mixed_precision bf16", f"object_encoder.hidden_dim {config.object_encoder.hidden_dim // 2}",
    )  # fmt: skip
    return RunFailure(f"the device ran out of memory; in this order: {', then '.join(remedies)}")
