"""The training loop of the active reasoner: rollout, advantages, losses, update. T steps, N episodes, A actions.

Every iteration starts new episodes, drawn by its index: it is a function of the weights and of (seed, iteration).
"""

import time
from contextlib import nullcontext
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.config import config_to_dict
from arc_core.distributed import global_mean
from arc_core.errors import InputError
from arc_core.loop import LossCheck, TrainingResult, load_optimizer, should_stop
from arc_core.progress import Progress
from arc_core.randomness import generator_for
from arc_core.runs import TIMING_PREFIX, MetricLog, RunFolder
from arc_core.signals import StopSignals
from arc_core.transfer import upload
from jepa_hrl.rl.config import METHOD, ReasonerConfig
from jepa_hrl.rl.environment.datasets import ProblemSets
from jepa_hrl.rl.environment.env import LatentReasoningVectorEnv
from jepa_hrl.rl.policy.actor_critic import entropy, update_weight_names
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.evaluation import EvalMetrics, evaluate_policy
from jepa_hrl.rl.ppo.losses import compute_gae, policy_losses
from jepa_hrl.rl.ppo.rollout import RolloutBuffer, collect_rollout

_FINAL_LR_SHARE = 0.1  # of the learning rate


class Trainer:
    """Trains a policy by reinforcement learning; a checkpoint holds all of its state that changes."""

    def __init__(self, config: ReasonerConfig, agent: Agent, sets: ProblemSets, run: RunFolder, fabric: Fabric) -> None:
        """Builds the optimiser and the environments.

        Args:
            config: recipe.
            agent: its policy is trained.
            sets: problems to train on, and held-out ones.
            run: folder of the run.
            fabric: processes and device.
        Raises:
            InputError: the processes cannot share the episodes evenly.
        """
        trainer = config.trainer
        if trainer.episodes_per_iter % fabric.world_size:
            raise InputError(
                f"trainer.episodes_per_iter must be a multiple of the {fabric.world_size} processes; "
                f"got {trainer.episodes_per_iter}"
            )
        self.config, self.sets, self.run, self.fabric = config, sets, run, fabric
        self.agent = agent
        optimizer = torch.optim.Adam(agent.policy.parameters(), trainer.lr, eps=1e-5)
        self.forward, self.optimizer = fabric.setup(agent.policy, optimizer)
        num_envs = trainer.episodes_per_iter // fabric.world_size
        self.envs = LatentReasoningVectorEnv(agent.cache, sets.train, config.env, num_envs, agent.options)
        self.total_steps = trainer.iterations
        self.training_data = tuple(dict.fromkeys((*agent.jepa.training_data, *sets.specs)))
        self.loss_check = LossCheck(fabric)
        self.step = 0  # iterations done
        self.best: tuple[float, float] | None = None  # success, minus length
        self.curve: list[tuple[int, float]] = []  # episode steps of all processes, held-out success

    def state(self) -> Checkpoint:
        """Returns the checkpoint that a resumed run needs."""
        return Checkpoint(
            method=METHOD,
            step=self.step,
            model=self.agent.policy.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler={},
            extras=self.agent.extras() | {"curve": [list(point) for point in self.curve]},
            config=config_to_dict(self.config),
            data_fingerprint=self.sets.fingerprint,
            training_data=self.training_data,
            best_metric=self.best,
        )  # fmt: skip

    def load(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of the same config and data."""
        self.agent.policy.load_state_dict(update_weight_names(checkpoint.model))
        load_optimizer(self.optimizer, checkpoint.optimizer)
        curve = cast("list[list[float]]", checkpoint.extras["curve"])
        self.curve = [(int(steps), float(success)) for steps, success in curve]
        best = checkpoint.best_metric
        self.best = None if best is None else (best[0], best[1])
        self.step, self.training_data = checkpoint.step, checkpoint.training_data

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Starts from the policy of another run, a cloned one for example; see `Agent.load_policy`."""
        self.agent.load_policy(checkpoint)
        self.training_data = tuple(dict.fromkeys((*checkpoint.training_data, *self.training_data)))

    def train(self, progress: Progress) -> TrainingResult:
        """Trains to the end or a signal; evaluates and saves every `report.every` iterations."""
        report, main = self.config.report, self.fabric.is_global_zero
        with MetricLog(self.run, self.step) if main else nullcontext() as log, StopSignals() as signals:
            if self.step == 0:  # the policy to start from may stay the best
                self._save(self._evaluate_and_compare(log, progress))
            while self.step < self.total_steps:
                clock = time.perf_counter()
                metrics = self.iteration()
                seconds = time.perf_counter() - clock
                steps = self.config.trainer.episodes_per_iter * self.config.trainer.steps_per_iter
                metrics[f"{TIMING_PREFIX}steps_per_second"] = steps / seconds
                if log is not None:
                    log.log(self.step, metrics)
                progress.update(
                    self.step,
                    f"episode_reward_mean {metrics['train/episode_reward_mean']:.3f}  "
                    f"success {metrics['train/success']:.3f}  length {metrics['train/length']:.2f}  "
                    f"{steps / seconds:.0f} steps/s",
                )
                if self.step % report.every == 0 or self.step == self.total_steps:
                    self._save(self._evaluate_and_compare(log, progress))
                elif signals.received is not None:
                    self._save(is_best=False)
                if should_stop(self.fabric, signals):
                    self._save(is_best=False)
                    message = "stopped by a signal; the iteration was finished and saved"
                    return TrainingResult(self.step, signals.exit_status, message)
        return TrainingResult(self.step, 0)

    def iteration(self) -> dict[str, float]:
        """Collects a rollout and updates the policy on it.

        Returns:
            Metrics, means over all processes.
        Raises:
            RunFailure: a loss is not finite.
        """
        config = self.config.trainer
        fraction_done = self.step / max(config.iterations - 1, 1)
        rate = config.lr * (1 - (1 - _FINAL_LR_SHARE) * fraction_done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rollout, metrics = collect_rollout(self.agent, self.envs, config, self.step, self.fabric)
        is_reinforce = config.algorithm == "reinforce"
        gae_lambda = 1.0 if is_reinforce else config.gae_lambda
        advantages, returns = compute_gae(
            rollout.rewards, rollout.values, rollout.next_values, rollout.terminated, rollout.ended,
            config.gamma, gae_lambda, rollout.durations,
        )  # fmt: skip
        entropy_weight = config.entropy + (config.final_entropy - config.entropy) * fraction_done
        if not is_reinforce:  # without a clip nothing bounds rare failures, which a small deviation would magnify
            advantages = self._normalize_advantages(advantages)
        metrics |= self._update(rollout, advantages, returns, entropy_weight)
        self.step += 1
        return metrics | {"optimizer/lr": rate, "train/entropy_weight": entropy_weight}

    def _normalize_advantages(self, advantages: Tensor) -> Tensor:
        """Returns the advantages with mean 0 and variance 1 over all processes."""
        mean = cast(Tensor, self.fabric.all_reduce(advantages.mean()))
        variance = cast(Tensor, self.fabric.all_reduce((advantages - mean).square().mean()))
        return (advantages - mean) / (variance.sqrt() + 1e-8)

    def _update(
        self, rollout: RolloutBuffer, advantages: Tensor, returns: Tensor, entropy_weight: float
    ) -> dict[str, float]:
        """Updates the policy in several passes over a rollout, minibatch by minibatch.

        Args:
            rollout: steps of this process.
            advantages: (T, N), normalised for PPO.
            returns: (T, N) targets of the values.
            entropy_weight: of the policy's entropy in the loss.
        Returns:
            Metrics, means over minibatches and processes.
        """
        config, fabric = self.config.trainer, self.fabric
        per_step, world_size = config.episodes_per_iter, fabric.world_size
        total = config.steps_per_iter * per_step
        actions, old_log_prob, old_values, advantages, returns = (
            part.flatten() for part in (rollout.actions, rollout.log_prob, rollout.values, advantages, returns)
        )
        passes = 1 if config.algorithm == "reinforce" else config.epochs
        metrics: list[Tensor] = []  # of each minibatch
        for epoch in range(passes):
            order = generator_for(config.seed, "minibatches", self.step * passes + epoch).permutation(total)
            before = len(metrics)
            for minibatch in np.array_split(order, config.minibatches):
                step, episode = np.divmod(minibatch, per_step)
                own = episode % world_size == fabric.global_rank
                (rows,) = upload([step[own] * self.envs.num_envs + episode[own] // world_size], fabric.device)
                log_probabilities, values = self.forward(rollout.batch.select(rows))
                log_prob = log_probabilities.gather(1, actions[rows, None])[:, 0]
                losses = policy_losses(
                    config, log_prob, old_log_prob[rows], advantages[rows], values, old_values[rows], returns[rows]
                )
                policy_loss, value_loss, mean_entropy = (
                    global_mean(part) for part in (losses.policy, losses.value, entropy(log_probabilities))
                )
                loss = policy_loss + config.value_weight * value_loss - entropy_weight * mean_entropy
                self.loss_check.add(loss, self.step + 1, float(self.optimizer.param_groups[0]["lr"]))
                self.optimizer.zero_grad()
                fabric.backward(loss)
                if config.max_grad_norm:
                    fabric.clip_gradients(
                        self.forward, self.optimizer, max_norm=config.max_grad_norm, error_if_nonfinite=False
                    )
                self.optimizer.step()
                parts = (policy_loss, value_loss, mean_entropy, global_mean(losses.clipped), global_mean(losses.kl))
                metrics.append(torch.stack([part.detach() for part in parts]))
            kl = cast(Tensor, fabric.all_reduce(torch.stack(metrics[before:]).mean(dim=0)))[-1]
            if config.target_kl and float(kl) > config.target_kl:
                break
        self.loss_check.confirm()
        means = cast(Tensor, fabric.all_reduce(torch.stack(metrics).mean(dim=0))).tolist()
        names = ("loss/policy", "loss/value", "train/entropy", "train/clipped", "train/kl")
        explained_variance = 1 - (returns - old_values).var() / returns.var().clamp_min(1e-8)
        return dict(zip(names, means, strict=True)) | {
            "train/explained_variance": float(explained_variance), "train/passes": len(metrics) / config.minibatches,
        }  # fmt: skip

    def evaluate(self) -> EvalMetrics:
        """Evaluates the policy on the held-out problems."""
        return evaluate_policy(self.agent, self.sets.held_out, self.config.env)

    def _evaluate_and_compare(self, log: MetricLog | None, progress: Progress) -> bool:
        """Evaluates the policy, extends the learning curve, and returns whether the policy is the best so far."""
        metrics = self.evaluate()
        config = self.config.trainer
        steps = self.step * config.episodes_per_iter * config.steps_per_iter
        self.curve = [*(point for point in self.curve if point[0] < steps), (steps, metrics.success)]
        if log is not None:
            log.log(self.step, metrics.metrics("eval"))
        progress.say(
            f"iteration {self.step}: {metrics.problems} held-out tasks, grounded success {metrics.success:.3f}, "
            f"latent only {metrics.latent_only:.3f}, length {metrics.length:.2f}, {metrics.length_ratio:.2f} times the "
            f"generator's"
        )
        quality = (metrics.success, -metrics.length)
        is_best = self.best is None or quality > self.best
        self.best = quality if is_best else self.best
        return is_best

    def _save(self, is_best: bool) -> None:
        if self.fabric.is_global_zero:
            save_checkpoint(self.run.checkpoints, self.state(), is_best, self.config.report.keep_last)
        self.fabric.barrier()
