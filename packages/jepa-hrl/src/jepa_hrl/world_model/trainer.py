"""The training loop of the program-conditioned JEPA. B programs of this process, S steps, K keys, D channels."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.config import config_to_dict
from arc_core.distributed import all_gather_with_gradient, global_mean
from arc_core.epochs import EpochRecord, EpochTrainer, link_epoch
from arc_core.errors import InputError
from arc_core.files import write_json
from arc_core.loop import LossCheck, can_fuse, load_optimizer, load_scaler, require_even_share
from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from arc_core.runs import MetricLog, RunFolder
from arc_core.transfer import upload
from jepa_hrl.jepa.data.batches import DeviceTable, epoch_order
from jepa_hrl.jepa.losses.sigreg import draw_slices, epps_pulley, quadrature_rule
from jepa_hrl.world_model.actions import ActionSet
from jepa_hrl.world_model.config import METHOD, ProgramJepaConfig
from jepa_hrl.world_model.data import ProgramBatch, ProgramSampler, Triples, tokenize_grids
from jepa_hrl.world_model.losses import info_nce_of_grids
from jepa_hrl.world_model.model import ProgramJepa
from jepa_hrl.world_model.validation import Retrieval


class Trainer(EpochTrainer):
    """The state of one run and its optimiser steps; a checkpoint holds all of the state that changes."""

    unit = "grids"
    loss_metric, accuracy_metric = "loss/total", "train/retrieval_top1"
    config: ProgramJepaConfig

    def __init__(
        self, config: ProgramJepaConfig, triples: Triples, actions: ActionSet, run: RunFolder, fabric: Fabric
    ) -> None:
        """Builds the networks and the optimiser on the fabric's device.

        Raises:
            InputError: the processes cannot share a batch evenly, or there are fewer grids than a batch holds.
        """
        training = config.training
        require_even_share(training.batch_size, fabric)
        self.config, self.triples, self.actions, self.run, self.fabric = config, triples, actions, run, fabric
        self.sampler = ProgramSampler(triples, ~triples.held_out)
        if len(self.sampler) < training.batch_size:
            raise InputError(
                f"training.batch_size must be at most the {len(self.sampler)} grids to learn from; "
                f"got {training.batch_size}"
            )
        self.steps_per_epoch = len(self.sampler) // training.batch_size
        self.total_steps = self.steps_per_epoch * training.epochs
        self.batch_size, self.log_every = training.batch_size, config.validation.log_every_steps
        table = tokenize_grids(triples.grids, config.object_encoder, triples.fingerprint, workers=-1)
        self.table = DeviceTable(table, fabric.device)
        self._argument_rows = torch.from_numpy(triples.argument_rows).to(fabric.device)
        torch.manual_seed(seed_for(training.seed, "program weights", 0))
        self.model = ProgramJepa(config, len(actions))
        self.model.encoder.fit_inputs(torch.from_numpy(table.objects), torch.from_numpy(table.grids))
        self.model.to(fabric.device)
        optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad],
            config.optimizer.lr, weight_decay=config.optimizer.weight_decay, betas=(0.9, 0.95),
            fused=can_fuse(fabric),
        )  # fmt: skip
        self.forward, self.optimizer = fabric.setup(self.model, optimizer)
        size, width = config.loss.queue_size, config.object_encoder.latent_dim
        self.queue = torch.zeros(0, width, device=fabric.device)
        self.queue_grids = torch.zeros(0, dtype=torch.long, device=fabric.device)  # indices of the keys' grids
        self._queue_size = size
        self.retrieval = Retrieval(triples, self.table, actions, config.object_encoder, config.validation.max_triples)
        rule = quadrature_rule(config.sigreg.num_points, config.sigreg.integration)
        self._rule = tuple(part.to(fabric.device) for part in rule)
        self.training_data: tuple[str, ...] = (triples.spec,)
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
            extras={
                "record": self.record.state_dict(),
                "queue": self.queue,
                "queued": self.queue_grids,
                "actions": self.actions.names,
                "precision": self.fabric.strategy.precision.state_dict(),
            },
            config=config_to_dict(self.config),
            data_fingerprint=self.triples.fingerprint,
            training_data=self.training_data,
            best_metric=None if self.record.best is None else (-self.record.best,),
        )

    def load(self, checkpoint: Checkpoint) -> None:
        """Restores a checkpoint of the same config and data."""
        self.model.load_state_dict(dict(checkpoint.model))
        load_optimizer(self.optimizer, checkpoint.optimizer)
        extras = checkpoint.extras
        load_scaler(self.fabric, extras["precision"])
        self.record.load_state_dict(cast("dict[str, object]", extras["record"]))
        device = self.fabric.device
        self.queue, self.queue_grids = (cast(Tensor, extras[name]).to(device) for name in ("queue", "queued"))
        self.step, self.training_data = checkpoint.step, checkpoint.training_data

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Starts from another run's weights, with an empty queue.

        Raises:
            InputError: the weights are of networks of other sizes or actions.
        """
        try:
            self.model.load_state_dict(dict(checkpoint.model))
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(f"--init-from needs weights of the same networks and actions: {reason}") from None
        self.training_data = tuple(dict.fromkeys((*checkpoint.training_data, *self.training_data)))

    def training_step(self) -> Mapping[str, Tensor | float]:
        """Takes one optimiser step and returns its metrics, means over all processes.

        Raises:
            RunFailure: the loss is not finite.
        """
        config, fabric, training = self.config, self.fabric, self.config.training
        rate = config.optimizer.lr * self.learning_rate_factor(config.optimizer.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        epoch, within = divmod(self.step, self.steps_per_epoch)
        order = epoch_order(training.seed, epoch, len(self.sampler))
        indices = order[within * training.batch_size : (within + 1) * training.batch_size]
        rng = generator_for(training.seed, "programs", self.step)
        programs = self.sampler.draw(indices, training.outcomes_per_grid, training.program_length, rng)
        terms, top1 = self._losses(self._take_share(programs))
        total = terms["info_nce"] + config.loss.inverse_weight * terms["inverse"]
        if "sigreg" in terms:
            total = total + config.sigreg.weight * terms["sigreg"]
        self.loss_check.add(total, self.step + 1, rate)
        fabric.backward(total)
        if config.optimizer.gradient_clip:
            limit = config.optimizer.gradient_clip
            fabric.clip_gradients(self.forward, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        values = {f"loss/{name}": term.detach() for name, term in (terms | {"total": total}).items()}
        values["train/retrieval_top1"] = top1
        means = cast(Tensor, fabric.all_reduce(torch.stack([value.double() for value in values.values()])))
        metrics: dict[str, Tensor | float] = dict(zip(values, means.unbind(), strict=True))
        return metrics | {"optimizer/lr": rate, "loss/temperature": self.model.temperature.detach().clone()}

    def record_step(self, metrics: Mapping[str, float]) -> None:
        """Adds a step's loss to the record of the epoch."""
        self.record.add(metrics["loss/total"])

    def _take_share(self, programs: ProgramBatch) -> ProgramBatch:
        """Returns this process's programs: with W processes, those of every W-th grid."""
        fabric = self.fabric
        if fabric.world_size == 1:
            return programs
        changes = (programs.sources[1:] != programs.sources[:-1]).cumsum()
        groups = np.concatenate([np.zeros(1, dtype=np.int64), changes])  # programs of one grid follow each other
        mine = groups % fabric.world_size == fabric.global_rank
        return ProgramBatch(
            programs.sources[mine], programs.actions[mine], programs.arguments[mine], programs.outcomes[mine]
        )

    def _losses(self, programs: ProgramBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Computes the loss terms of some programs by name, and the share of outcomes that are retrieved first."""
        device, config = self.fabric.device, self.config
        is_step = programs.outcomes >= 0
        outcomes = programs.outcomes[is_step]
        grids, positions = np.unique(np.concatenate([programs.sources, outcomes]), return_inverse=True)
        owners = np.broadcast_to(np.arange(len(is_step))[:, None], is_step.shape)[is_step]  # program of each step
        plan, num_programs = self.table.plan(grids), len(is_step)
        sigreg_arrays = []
        if config.sigreg.weight:
            # Each grid's first program: every process has as many of them, which the statistic needs.
            first = np.unique(programs.sources, return_index=True)[1]
            slices = draw_slices(
                config.object_encoder.latent_dim, config.sigreg.num_slices,
                generator_for(config.training.seed, "slices", self.step),
            )  # fmt: skip
            sigreg_arrays = [positions[:num_programs][first], slices.numpy()]
        host_arrays = (
            positions, programs.actions, programs.arguments, positions[:num_programs][owners],
            np.concatenate([outcomes, programs.sources]), programs.actions[owners, 0], *sigreg_arrays,
            *plan.arrays(),
        )  # fmt: skip
        (
            device_positions,
            actions,
            arguments,
            step_sources,
            key_grids,
            first_actions,
            *more,
        ) = upload(host_arrays, device)
        # Positions among this batch's grids, of sources for each program, of outcomes for each step.
        source_positions, outcome_positions = device_positions.tensor_split([num_programs])
        latents, queries, logits = cast(ProgramJepa, self.forward)(
            self.table.gather(plan, more[len(sigreg_arrays) :]),
            actions,
            self._argument_rows[arguments],
            is_step.sum(axis=1).tolist(),
            step_sources,
            outcome_positions,
        )
        # The grids themselves are outcomes too, of doing nothing: they follow the targets as negatives.
        keys = latents[torch.cat([outcome_positions, source_positions])]
        all_keys, all_grids, offset = all_gather_with_gradient(keys, key_grids, self.fabric)
        targets = torch.arange(len(queries), device=device) + offset
        loss, top1 = info_nce_of_grids(
            queries, all_keys, targets, all_grids, self.queue, self.queue_grids, self.model.temperature
        )
        terms = {"info_nce": loss}
        terms["inverse"] = global_mean(functional.cross_entropy(logits, first_actions, reduction="none"))
        if config.sigreg.weight:
            first_sources, device_slices = more[: len(sigreg_arrays)]
            terms["sigreg"] = epps_pulley(latents[first_sources], device_slices, *self._rule)
        if self._queue_size:
            order = all_grids.argsort(stable=True)  # several processes gather the keys in another order than one has
            self.queue = torch.cat([self.queue, all_keys.detach()[order].float()])[-self._queue_size :]
            self.queue_grids = torch.cat([self.queue_grids, all_grids[order]])[-self._queue_size :]
        return terms, top1

    def score(self) -> dict[str, float]:
        """Computes the metrics of the held-out triples; see `Retrieval`."""
        self.model.eval()
        with self.fabric.autocast():
            metrics = self.retrieval.score(self.model)
        self.model.train()
        return metrics

    def end_epoch(self, log: MetricLog | None, progress: Progress) -> None:
        """Validates on held-out triples, logs and saves."""
        epoch, epochs = self.step // self.steps_per_epoch, self.config.training.epochs
        metrics = self.score()
        is_best = self.record.end_epoch(-metrics["val/accuracy_same_grid"], 0.0)
        if log is not None:
            log.log(self.step, metrics)
        progress.say(
            f"epoch {epoch}/{epochs}  loss {self.record.losses[-1]:.4f}  "
            f"right among 64: {metrics['val/accuracy']:.3f}, "
            f"among all actions' outcomes {metrics['val/accuracy_same_grid']:.3f}  "
            f"isotropy {metrics['diagnostics/target/isotropy']:.2f}"
        )
        if self.fabric.is_global_zero:
            names = ("accuracy", "accuracy_same_grid", "candidates_same_grid", "loss", "distance")
            write_json(
                self.run.path / "metrics.json",
                {
                    "completed_epochs": epoch, "batch_size": self.config.training.batch_size,
                    "losses": self.record.losses, "prediction_metrics": {n: metrics[f"val/{n}"] for n in names},
                },
            )  # fmt: skip
        self.save(is_best)
        if self.fabric.is_global_zero:
            link_epoch(self.run, self.step, epoch)

    def save(self, is_best: bool) -> None:
        """Saves a checkpoint of the current step."""
        if self.fabric.is_global_zero:
            save_checkpoint(self.run.checkpoints, self.state(), is_best, self.config.validation.keep_last)
        self.fabric.barrier()
