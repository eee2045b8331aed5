"""Training loop of the program-conditioned JEPA. B programs of this process's share, S steps, K keys, D channels."""

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
from arc_core.loop import check_finite, require_even_share
from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from arc_core.runs import MetricLog, RunFolder
from jepa_hrl.jepa.data.batches import DeviceTable, epoch_order
from jepa_hrl.jepa.losses.sigreg import draw_slices, epps_pulley, quadrature_rule
from jepa_hrl.world_model.actions import ActionSet
from jepa_hrl.world_model.config import METHOD, ProgramJepaConfig
from jepa_hrl.world_model.data import Programs, Starts, Triples, tokenize_grids
from jepa_hrl.world_model.losses import info_nce_of_grids
from jepa_hrl.world_model.model import ProgramJepa
from jepa_hrl.world_model.validation import Retrieval


class Trainer(EpochTrainer):
    """Everything that one run holds on to; a checkpoint has all that changes."""

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
        self.starts = Starts(triples, ~triples.held_out)
        if len(self.starts) < training.batch_size:
            raise InputError(
                f"training.batch_size must be at most the {len(self.starts)} grids to learn from; "
                f"got {training.batch_size}"
            )
        self.steps_per_epoch = len(self.starts) // training.batch_size
        self.total_steps = self.steps_per_epoch * training.epochs
        self.batch_size, self.log_every = training.batch_size, config.validation.log_every_steps
        table = tokenize_grids(triples.grids, config.object_encoder, triples.fingerprint, workers=-1)
        self.table = DeviceTable(table, fabric.device)
        self._rows = torch.from_numpy(triples.argument_rows).to(fabric.device)
        torch.manual_seed(seed_for(training.seed, "program weights", 0))
        self.model = ProgramJepa(config, len(actions))
        self.model.encoder.fit_inputs(torch.from_numpy(table.objects), torch.from_numpy(table.grids))
        self.model.to(fabric.device)
        optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad],
            config.optimizer.lr, weight_decay=config.optimizer.weight_decay, betas=(0.9, 0.95),
            fused=fabric.device.type == "cpu",  # on a GPU, where a scaler may be, it cannot be clipped
        )  # fmt: skip
        self.forward, self.optimizer = fabric.setup(self.model, optimizer)
        size, width = config.loss.queue_size, config.object_encoder.latent_dim
        self.queue = torch.zeros(0, width, device=fabric.device)
        self.queued = torch.zeros(0, dtype=torch.long, device=fabric.device)  # the queue's grids
        self._queue_size = size
        self.retrieval = Retrieval(triples, self.table, actions, config.object_encoder, config.validation.max_triples)
        rule = quadrature_rule(config.sigreg.num_points, config.sigreg.integration)
        self._rule = tuple(part.to(fabric.device) for part in rule)
        self.training_data: tuple[str, ...] = (triples.spec,)
        self.step, self.record = 0, EpochRecord()

    def state(self) -> Checkpoint:
        """All that a resumed run needs."""
        return Checkpoint(
            method=METHOD,
            step=self.step,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler={},
            extras={
                "record": self.record.state_dict(),
                "queue": self.queue,
                "queued": self.queued,
                "actions": self.actions.names,
                "precision": self.fabric.strategy.precision.state_dict(),
            },
            config=config_to_dict(self.config),
            data_fingerprint=self.triples.fingerprint,
            training_data=self.training_data,
            best_metric=None if self.record.best is None else (-self.record.best,),
        )

    def load(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of the same config and data."""
        self.model.load_state_dict(dict(checkpoint.model))
        self.optimizer.load_state_dict(cast(dict[str, object], checkpoint.optimizer))
        extras = checkpoint.extras
        self.fabric.strategy.precision.load_state_dict(cast("dict[str, object]", extras["precision"]))
        self.record.load_state_dict(cast("dict[str, object]", extras["record"]))
        device = self.fabric.device
        self.queue, self.queued = (cast(Tensor, extras[name]).to(device) for name in ("queue", "queued"))
        self.step, self.training_data = checkpoint.step, checkpoint.training_data

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Takes over another run's weights, with an empty queue.

        Raises:
            InputError: they are of networks of other sizes or actions.
        """
        try:
            self.model.load_state_dict(dict(checkpoint.model))
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(f"--init-from needs weights of the same networks and actions: {reason}") from None
        self.training_data = tuple(dict.fromkeys((*checkpoint.training_data, *self.training_data)))

    def training_step(self) -> dict[str, float]:
        """One optimiser step; means over all processes.

        Raises:
            RunFailure: the loss is not finite.
        """
        config, fabric, training = self.config, self.fabric, self.config.training
        rate = config.optimizer.lr * self.learning_rate_factor(config.optimizer.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        epoch, within = divmod(self.step, self.steps_per_epoch)
        order = epoch_order(training.seed, epoch, len(self.starts))
        places = order[within * training.batch_size : (within + 1) * training.batch_size]
        rng = generator_for(training.seed, "programs", self.step)
        drawn = self.starts.draw(places, training.outcomes_per_grid, training.program_length, rng)
        mine = self._share(drawn)
        parts, right = self._losses(mine)
        total = parts["info_nce"] + config.loss.inverse_weight * parts["inverse"]
        if "sigreg" in parts:
            total = total + config.sigreg.weight * parts["sigreg"]
        check_finite(total.item(), self.step + 1, rate)
        fabric.backward(total)
        if config.optimizer.gradient_clip:
            limit = config.optimizer.gradient_clip
            fabric.clip_gradients(self.forward, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        values = {f"loss/{name}": part.detach() for name, part in (parts | {"total": total}).items()}
        values["train/retrieval_top1"] = right
        means = cast(Tensor, fabric.all_reduce(torch.stack([value.double() for value in values.values()]))).tolist()
        found = dict(zip(values, means, strict=True))
        self.record.add(found["loss/total"])
        return found | {"optimizer/lr": rate, "loss/temperature": float(self.model.temperature.detach())}

    def _share(self, drawn: Programs) -> Programs:
        """This process's programs: those of every so many grids."""
        fabric = self.fabric
        if fabric.world_size == 1:
            return drawn
        first = (drawn.sources[1:] != drawn.sources[:-1]).cumsum()
        groups = torch.cat([torch.zeros(1, dtype=torch.long), torch.from_numpy(first)]).numpy()
        kept = groups % fabric.world_size == fabric.global_rank
        return Programs(drawn.sources[kept], drawn.actions[kept], drawn.arguments[kept], drawn.outcomes[kept])

    def _losses(self, programs: Programs) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of some programs, and how often the right outcome is nearest."""
        device, config = self.fabric.device, self.config
        there = programs.outcomes >= 0
        targets = programs.outcomes[there]
        grids, where = np.unique(np.concatenate([programs.sources, targets]), return_inverse=True)
        places = torch.from_numpy(where).to(device)
        owners = np.broadcast_to(np.arange(len(there))[:, None], there.shape)[there]
        froms = places[: len(programs.sources)][torch.from_numpy(owners).to(device)]
        latents, queries, first = cast(ProgramJepa, self.forward)(
            self.table.tokens(grids),
            torch.from_numpy(programs.actions).to(device),
            self._rows[torch.from_numpy(programs.arguments).to(device)],
            there.sum(axis=1).tolist(),
            froms,
            places[len(programs.sources) :],
        )
        # The grids themselves are outcomes too, of doing nothing: they follow the targets as negatives.
        keys = latents[torch.cat([places[len(programs.sources) :], places[: len(programs.sources)]])]
        names = torch.from_numpy(np.concatenate([targets, programs.sources])).to(device)
        all_keys, all_names, offset = all_gather_with_gradient(keys, names, self.fabric)
        own = torch.arange(len(queries), device=device) + offset
        loss, right = info_nce_of_grids(
            queries, all_keys, own, all_names, self.queue, self.queued, self.model.temperature
        )
        parts = {"info_nce": loss}
        begun = torch.from_numpy(programs.actions[owners, 0]).to(device)
        parts["inverse"] = global_mean(functional.cross_entropy(first, begun, reduction="none"))
        if config.sigreg.weight:
            slices = draw_slices(
                latents.shape[1], config.sigreg.num_slices, generator_for(config.training.seed, "slices", self.step)
            )
            # Of each grid once: every process has as many of them, which the statistic needs.
            first = np.unique(programs.sources, return_index=True)[1]
            sources = latents[places[: len(programs.sources)][torch.from_numpy(first).to(device)]]
            parts["sigreg"] = epps_pulley(sources, slices.to(device), *self._rule)
        if self._queue_size:
            order = all_names.argsort(stable=True)  # that of several processes is another than that of one
            self.queue = torch.cat([self.queue, all_keys.detach()[order].float()])[-self._queue_size :]
            self.queued = torch.cat([self.queued, all_names[order]])[-self._queue_size :]
        return parts, right

    def score(self) -> dict[str, float]:
        """Figures of the held-out triples; see `Retrieval`."""
        self.model.eval()
        with self.fabric.autocast():
            found = self.retrieval.score(self.model)
        self.model.train()
        return found

    def end_epoch(self, log: MetricLog | None, progress: Progress) -> None:
        """Validates on held-out triples, logs and saves."""
        epoch, epochs = self.step // self.steps_per_epoch, self.config.training.epochs
        found = self.score()
        is_best = self.record.end_epoch(-found["val/accuracy_same_grid"], 0.0)
        if log is not None:
            log.log(self.step, found)
        progress.say(
            f"epoch {epoch}/{epochs}  loss {self.record.losses[-1]:.4f}  right among 64: {found['val/accuracy']:.3f}, "
            f"among all actions' outcomes {found['val/accuracy_same_grid']:.3f}  "
            f"isotropy {found['diagnostics/target/isotropy']:.2f}"
        )
        if self.fabric.is_global_zero:
            names = ("accuracy", "accuracy_same_grid", "candidates_same_grid", "loss", "distance")
            write_json(
                self.run.path / "metrics.json",
                {
                    "completed_epochs": epoch, "batch_size": self.config.training.batch_size,
                    "losses": self.record.losses, "prediction_metrics": {n: found[f"val/{n}"] for n in names},
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
