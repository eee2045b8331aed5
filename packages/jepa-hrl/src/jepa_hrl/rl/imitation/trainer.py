"""The training loop of behavioural cloning."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.config import config_to_dict
from arc_core.distributed import global_mean
from arc_core.epochs import EpochTrainer
from arc_core.errors import InputError
from arc_core.loop import ExponentialAverage, LossCheck, can_fuse, load_optimizer
from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from arc_core.runs import MetricLog, RunFolder
from arc_core.transfer import upload
from jepa_hrl.jepa.data.batches import epoch_order
from jepa_hrl.rl.config import CLONING_METHOD, ReasonerConfig
from jepa_hrl.rl.environment.datasets import ProblemSets
from jepa_hrl.rl.imitation.demonstrations import Demonstrations, imitation_loss, resample_pairs
from jepa_hrl.rl.policy.actor_critic import update_weight_names
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.evaluation import EvalMetrics, evaluate_policy

_WARMUP_STEPS = 50  # optimiser steps


class CloningTrainer(EpochTrainer):
    """Trains a policy to imitate demonstrations; a checkpoint holds all of its state that changes."""

    unit = "examples"
    loss_metric, accuracy_metric = "loss/imitation", "train/accuracy"

    def __init__(
        self, config: ReasonerConfig, agent: Agent, sets: ProblemSets, demonstrations: Demonstrations,
        run: RunFolder, fabric: Fabric,
    ) -> None:  # fmt: skip
        """Builds the optimiser and the average of weights.

        Args:
            config: recipe; `config.cloning` rules the training.
            agent: its policy is trained.
            sets: the held-out problems are evaluated on.
            demonstrations: all examples, in every process.
            run: folder of the run.
            fabric: processes and device.
        Raises:
            InputError: there are fewer examples than a batch holds.
        """
        cloning = config.cloning
        if len(demonstrations) < cloning.batch_size:
            raise InputError(
                f"cloning.batch_size must be at most the {len(demonstrations)} steps to imitate; "
                f"got {cloning.batch_size}"
            )
        self.config, self.agent, self.sets, self.run, self.fabric = config, agent, sets, run, fabric
        self.demonstrations = demonstrations
        optimizer = torch.optim.AdamW(
            agent.policy.parameters(), cloning.lr, weight_decay=cloning.weight_decay, fused=can_fuse(fabric)
        )
        self.forward, self.optimizer = fabric.setup(agent.policy, optimizer)
        self.average = ExponentialAverage(agent.policy, cloning.ema_decay) if cloning.ema_decay is not None else None
        self.steps_per_epoch = len(demonstrations) // cloning.batch_size
        self.total_steps = self.steps_per_epoch * cloning.epochs
        self.batch_size, self.log_every = cloning.batch_size, self.steps_per_epoch
        self.training_data = tuple(dict.fromkeys((*agent.jepa.training_data, *sets.specs)))
        self.loss_check = LossCheck(fabric)
        self.step = 0
        self.best: tuple[float, float] | None = None

    def state(self) -> Checkpoint:
        """Returns the checkpoint that a resumed run needs."""
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
        self.agent.policy.load_state_dict(update_weight_names(checkpoint.model))
        if self.average:
            self.average.load_state_dict(update_weight_names(checkpoint.ema))
        load_optimizer(self.optimizer, checkpoint.optimizer)
        best = checkpoint.best_metric
        self.best = None if best is None else (best[0], best[1])
        self.step, self.training_data = checkpoint.step, checkpoint.training_data

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Starts from the policy of another run; see `Agent.load_policy`."""
        self.agent.load_policy(checkpoint)
        if self.average:
            self.average.load_state_dict(dict(self.agent.policy.named_parameters()))
        self.training_data = tuple(dict.fromkeys((*checkpoint.training_data, *self.training_data)))

    def start(self, log: MetricLog | None, progress: Progress) -> None:
        """Evaluates the untrained policy before the first step."""
        if self.step == 0:
            untrained = self.evaluate()
            progress.say(f"untrained: grounded success {untrained.success:.3f}")
            if log is not None:
                log.log(0, untrained.metrics("eval"))

    def training_step(self) -> Mapping[str, Tensor | float]:
        """Takes one optimiser step.

        Returns:
            The loss, and the accuracy: the share of expert's choices that the policy finds likeliest.
        Raises:
            RunFailure: the loss is not finite.
        """
        config, fabric, seed = self.config.cloning, self.fabric, self.config.trainer.seed
        rate = config.lr * self.learning_rate_factor(_WARMUP_STEPS)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        epoch, index = divmod(self.step, self.steps_per_epoch)
        order = epoch_order(seed, epoch, len(self.demonstrations), "cloning")
        examples = order[index * config.batch_size : (index + 1) * config.batch_size]
        (rows,) = upload([examples[fabric.global_rank :: fabric.world_size]], fabric.device)
        torch.manual_seed(seed_for(seed, f"dropout of rank {fabric.global_rank}", self.step))
        self.agent.policy.train()
        batch = self.demonstrations.batch.select(rows)
        if config.redraw:
            random = generator_for(seed, f"redraw of rank {fabric.global_rank}", self.step)
            batch = resample_pairs(batch, config.redraw, random)
        log_probabilities, values = self.forward(batch)
        self.agent.policy.eval()
        actions = self.demonstrations.actions[rows]
        loss = global_mean(imitation_loss(log_probabilities, actions))
        accuracy = global_mean((log_probabilities.argmax(dim=1) == actions).float())
        self.loss_check.add(loss, self.step + 1, rate)
        self.optimizer.zero_grad()
        fabric.backward(loss + 0.0 * values.sum())  # several processes need a gradient of every parameter
        self.optimizer.step()
        if self.average:
            self.average.update(self.step)
        self.step += 1
        mean_loss, mean_accuracy = cast(Tensor, fabric.all_reduce(torch.stack([loss.detach(), accuracy]))).unbind()
        return {"loss/imitation": mean_loss, "train/accuracy": mean_accuracy}

    def evaluate(self) -> EvalMetrics:
        """Evaluates the policy on the held-out problems, with averaged weights if there are any."""
        with self.average.average_parameters() if self.average else nullcontext():
            return evaluate_policy(self.agent, self.sets.held_out, self.config.env)

    def end_epoch(self, log: MetricLog | None, progress: Progress) -> None:
        """Saves a checkpoint; every `report.every` epochs and at the end, evaluates the policy first."""
        epoch, epochs = self.step // self.steps_per_epoch, self.config.cloning.epochs
        if epoch % self.config.report.every and epoch < epochs:
            self.save(is_best=False)
            return
        metrics = self.evaluate()
        if log is not None:
            log.log(self.step, metrics.metrics("eval"))
        progress.say(
            f"epoch {epoch}/{epochs}: grounded success on {metrics.problems} held-out tasks {metrics.success:.3f}, "
            f"length {metrics.length:.2f}"
        )
        quality = (metrics.success, -metrics.length)
        is_best = self.best is None or quality > self.best
        self.best = quality if is_best else self.best
        self.save(is_best)

    def save(self, is_best: bool) -> None:
        """Saves a checkpoint of the current step."""
        if self.fabric.is_global_zero:
            save_checkpoint(self.run.checkpoints, self.state(), is_best, self.config.report.keep_last)
        self.fabric.barrier()
