"""Training loop of behavioural cloning."""

import time
from contextlib import nullcontext
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.config import config_to_dict
from arc_core.errors import InputError
from arc_core.loop import Ended, ExponentialAverage, check_finite, stop_asked
from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from arc_core.runs import TIMING_PREFIX, MetricLog, RunFolder
from arc_core.signals import StopSignals
from jepa_hrl.jepa.batches import epoch_order
from jepa_hrl.jepa.losses import mean_of_all
from jepa_hrl.jepa.schedule import rate_factor
from jepa_hrl.rl.agent import Agent
from jepa_hrl.rl.cloning import Demonstrated, imitation_loss, redrawn
from jepa_hrl.rl.config import CLONING_METHOD, ReasonerConfig
from jepa_hrl.rl.data import PuzzleSets
from jepa_hrl.rl.measure import Measured, measured, try_all

_WARM_UP = 50  # optimiser steps


class CloningTrainer:
    """Everything that one run holds on to; a checkpoint has all that changes."""

    def __init__(
        self, config: ReasonerConfig, agent: Agent, sets: PuzzleSets, known: Demonstrated, run: RunFolder,
        fabric: Fabric,
    ) -> None:  # fmt: skip
        """Takes the steps to imitate, all of them in every process.

        Raises:
            InputError: there are fewer steps than a batch holds.
        """
        cloning = config.cloning
        if len(known) < cloning.batch_size:
            raise InputError(
                f"cloning.batch_size must be at most the {len(known)} steps to imitate; got {cloning.batch_size}"
            )
        self.config, self.agent, self.sets, self.run, self.fabric = config, agent, sets, run, fabric
        self.known = known
        optimizer = torch.optim.AdamW(
            agent.policy.parameters(), cloning.lr, weight_decay=cloning.weight_decay, fused=True
        )
        self.forward, self.optimizer = fabric.setup(agent.policy, optimizer)
        self.average = ExponentialAverage(agent.policy, cloning.ema_decay) if cloning.ema_decay is not None else None
        self.steps_per_epoch = len(known) // cloning.batch_size
        self.total_steps = self.steps_per_epoch * cloning.epochs
        self.training_data = tuple(dict.fromkeys((*agent.jepa.training_data, *sets.specs)))
        self.step = 0
        self.best: tuple[float, float] | None = None

    def state(self) -> Checkpoint:
        """All that a resumed run needs."""
        return Checkpoint(
            method=CLONING_METHOD,
            step=self.step,
            model=self.agent.policy.state_dict(),
            ema=self.average.state_dict() if self.average else {},
            optimizer=self.optimizer.state_dict(),
            scheduler={},
            extras=self.agent.extras(),
            config=config_to_dict(self.config),
            data_fingerprint=self.sets.fingerprint,
            training_data=self.training_data,
            best_metric=self.best,
        )

    def load(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of the same config and data."""
        self.agent.policy.load_state_dict(dict(checkpoint.model))
        if self.average:
            self.average.load_state_dict(checkpoint.ema)
        self.optimizer.load_state_dict(cast(dict[str, object], checkpoint.optimizer))
        best = checkpoint.best_metric
        self.best = None if best is None else (best[0], best[1])
        self.step, self.training_data = checkpoint.step, checkpoint.training_data

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Takes over another run's policy; see `Agent.take`."""
        self.agent.take(checkpoint)
        if self.average:
            self.average.load_state_dict(dict(self.agent.policy.named_parameters()))
        self.training_data = tuple(dict.fromkeys((*checkpoint.training_data, *self.training_data)))

    def train(self, progress: Progress) -> Ended:
        """Trains to the end or a signal; logs and saves after each epoch, and measures after some."""
        main = self.fabric.is_global_zero
        with MetricLog(self.run, self.step) if main else nullcontext() as log, StopSignals() as signals:
            if self.step == 0:
                untrained = self.score()
                progress.say(f"untrained: grounded success {untrained.success:.3f}")
                if log is not None:
                    log.log(0, untrained.metrics("eval"))
            clock, clocked = time.perf_counter(), self.step
            while self.step < self.total_steps:
                loss, right = self.training_step()
                epoch_done = self.step % self.steps_per_epoch == 0
                progress.update(self.step, f"loss {loss:.3f}  right {right:.3f}")
                if epoch_done:
                    seconds = time.perf_counter() - clock
                    rate = (self.step - clocked) * self.config.cloning.batch_size / seconds
                    if log is not None:
                        values = {"loss/imitation": loss, "train/right": right}
                        log.log(self.step, values | {f"{TIMING_PREFIX}examples_per_second": rate})
                    self._end_epoch(log, progress)
                    clock, clocked = time.perf_counter(), self.step
                if stop_asked(self.fabric, signals):
                    if not epoch_done:
                        self._save(is_best=False)
                    return Ended(self.step, signals.exit_status, "stopped by a signal; the step was finished and saved")
        return Ended(self.step, 0)

    def training_step(self) -> tuple[float, float]:
        """One optimiser step; the loss, and the share of actions that are the policy's first choice.

        Raises:
            RunFailure: the loss is not finite.
        """
        config, fabric, seed = self.config.cloning, self.fabric, self.config.trainer.seed
        rate = config.lr * rate_factor(self.step, _WARM_UP, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        epoch, within = divmod(self.step, self.steps_per_epoch)
        order = epoch_order(seed, epoch, len(self.known), "cloning")
        part = order[within * config.batch_size : (within + 1) * config.batch_size]
        rows = torch.from_numpy(part[fabric.global_rank :: fabric.world_size]).to(fabric.device)
        torch.manual_seed(seed_for(seed, f"dropout of rank {fabric.global_rank}", self.step))
        self.agent.policy.train()
        batch = self.known.batch.rows(rows)
        if config.redraw:
            random = generator_for(seed, f"redraw of rank {fabric.global_rank}", self.step)
            batch = redrawn(batch, config.redraw, random)
        log_probabilities, values = self.forward(batch)
        self.agent.policy.eval()
        actions = self.known.actions[rows]
        loss = mean_of_all(imitation_loss(log_probabilities, actions))
        right = mean_of_all((log_probabilities.argmax(dim=1) == actions).float())
        check_finite(loss.item(), self.step + 1, rate)
        self.optimizer.zero_grad()
        fabric.backward(loss + 0.0 * values.sum())  # processes together need a gradient of every parameter
        self.optimizer.step()
        if self.average:
            self.average.update(self.step)
        self.step += 1
        means = cast(Tensor, fabric.all_reduce(torch.stack([loss.detach(), right]))).tolist()
        return means[0], means[1]

    def score(self) -> Measured:
        """Held-out puzzles, with averaged weights if there are any."""
        with self.average.applied() if self.average else nullcontext():
            return measured(try_all(self.agent, self.sets.held_out, self.config.env))

    def _end_epoch(self, log: MetricLog | None, progress: Progress) -> None:
        epoch, epochs = self.step // self.steps_per_epoch, self.config.cloning.epochs
        if epoch % self.config.report.every and epoch < epochs:
            self._save(is_best=False)
            return
        found = self.score()
        if log is not None:
            log.log(self.step, found.metrics("eval"))
        progress.say(
            f"epoch {epoch}/{epochs}: grounded success on {found.puzzles} held-out tasks {found.success:.3f}, "
            f"length {found.length:.2f}"
        )
        quality = (found.success, -found.length)
        is_best = self.best is None or quality > self.best
        self.best = quality if is_best else self.best
        self._save(is_best)

    def _save(self, is_best: bool) -> None:
        if self.fabric.is_global_zero:
            save_checkpoint(self.run.checkpoints, self.state(), is_best, self.config.report.keep_last)
        self.fabric.barrier()
