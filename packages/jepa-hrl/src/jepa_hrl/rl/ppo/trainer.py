"""Training loop of the active reasoner: gather episodes, learn from them. T steps, N episodes, A actions.

An iteration begins its episodes anew, drawn by its number: it is a function of the weights and of (seed, iteration).
"""

import time
from contextlib import nullcontext
from typing import NamedTuple, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.config import config_to_dict
from arc_core.distributed import global_mean
from arc_core.errors import InputError
from arc_core.loop import TrainingResult, check_finite, should_stop
from arc_core.progress import Progress
from arc_core.randomness import generator_for
from arc_core.runs import TIMING_PREFIX, MetricLog, RunFolder
from arc_core.signals import StopSignals
from jepa_hrl.rl.config import METHOD, ReasonerConfig
from jepa_hrl.rl.environment.datasets import ProblemSets
from jepa_hrl.rl.environment.env import LatentReasoningVectorEnv
from jepa_hrl.rl.policy.actor_critic import Batch, entropy
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.evaluation import EvalMetrics, evaluate_policy, make_batch
from jepa_hrl.rl.ppo.losses import compute_gae, policy_losses

_LAST_RATE = 0.1  # of the learning rate, at the end


class RolloutBuffer(NamedTuple):
    """An iteration's steps: observations of T N steps, step after step, the others (T, N).

    Attributes:
        batch: observations that actions were chosen on.
        next_values: see `compute_gae`.
    """

    batch: Batch
    actions: Tensor
    log_probabilities: Tensor
    values: Tensor
    next_values: Tensor
    rewards: Tensor
    terminated: Tensor
    ended: Tensor
    durations: Tensor


class Trainer:
    """Everything that one run holds on to; a checkpoint has all that changes."""

    def __init__(self, config: ReasonerConfig, agent: Agent, sets: ProblemSets, run: RunFolder, fabric: Fabric) -> None:
        """Builds the optimiser and the environment.

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
        self.count = trainer.episodes_per_iter // fabric.world_size
        self.env = LatentReasoningVectorEnv(agent.cache, sets.train, config.env, self.count, agent.options)
        self.total_steps = trainer.iterations
        self.training_data = tuple(dict.fromkeys((*agent.jepa.training_data, *sets.specs)))
        self.step = 0  # iterations done
        self.best: tuple[float, float] | None = None  # success, minus length
        self.curve: list[tuple[int, float]] = []  # episode steps of all processes, held-out success

    def state(self) -> Checkpoint:
        """All that a resumed run needs."""
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
        self.agent.policy.load_state_dict(dict(checkpoint.model))
        self.optimizer.load_state_dict(cast(dict[str, object], checkpoint.optimizer))
        curve = cast("list[list[float]]", checkpoint.extras["curve"])
        self.curve = [(int(steps), float(success)) for steps, success in curve]
        best = checkpoint.best_metric
        self.best = None if best is None else (best[0], best[1])
        self.step, self.training_data = checkpoint.step, checkpoint.training_data

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Takes over another run's policy, a cloned one's for example; see `Agent.load_policy`."""
        self.agent.load_policy(checkpoint)
        self.training_data = tuple(dict.fromkeys((*checkpoint.training_data, *self.training_data)))

    def train(self, progress: Progress) -> TrainingResult:
        """Trains to the end or a signal; measures held-out problems, logs and saves now and then."""
        report, main = self.config.report, self.fabric.is_global_zero
        with MetricLog(self.run, self.step) if main else nullcontext() as log, StopSignals() as signals:
            if self.step == 0:  # what it begins with may stay the best
                self._save(self._measure(log, progress))
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
                    self._save(self._measure(log, progress))
                elif signals.received is not None:
                    self._save(is_best=False)
                if should_stop(self.fabric, signals):
                    self._save(is_best=False)
                    message = "stopped by a signal; the iteration was finished and saved"
                    return TrainingResult(self.step, signals.exit_status, message)
        return TrainingResult(self.step, 0)

    def iteration(self) -> dict[str, float]:
        """Gathers episodes and learns from them; means over all processes.

        Raises:
            RunFailure: a loss is not finite.
        """
        config = self.config.trainer
        through = self.step / max(config.iterations - 1, 1)
        rate = config.lr * (1 - (1 - _LAST_RATE) * through)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rollout, metrics = self._collect_rollout()
        decay = 1.0 if config.algorithm == "reinforce" else config.gae_lambda
        advantages, returns = compute_gae(
            rollout.rewards, rollout.values, rollout.next_values, rollout.terminated, rollout.ended,
            config.gamma, decay, rollout.durations,
        )  # fmt: skip
        weight = config.entropy + (config.final_entropy - config.entropy) * through
        metrics |= self._update(rollout, self._normalize_advantages(advantages), returns, weight)
        self.step += 1
        return metrics | {"optimizer/lr": rate, "train/entropy_weight": weight}

    def _collect_rollout(self) -> tuple[RolloutBuffer, dict[str, float]]:
        """Episodes played by the policy as it is."""
        config, world_size = self.config.trainer, self.fabric.world_size
        total, device = config.episodes_per_iter, self.fabric.device
        mine = slice(self.fabric.global_rank, None, world_size)
        self.agent.cache.forget()
        seeds = generator_for(config.seed, "episodes", self.step).integers(2**31, size=total)[mine]
        observation, _ = self.env.reset(seed=seeds.tolist())
        batches: list[Batch] = []
        columns: list[tuple[Tensor, ...]] = []
        stats = EpisodeStats()
        shape = (config.steps_per_iter, self.count)
        next_values = torch.zeros(shape, device=device)
        with torch.no_grad():
            for step in range(config.steps_per_iter):
                batch = make_batch(observation, self.agent.lookahead, device)
                log_probabilities, values = self.agent.policy(batch)
                noise = generator_for(config.seed, "actions", self.step * config.steps_per_iter + step)
                gumbel = noise.gumbel(size=(total, self.env.single_action_space.n))[mine].astype(np.float32)  # type: ignore[attr-defined]
                actions = (log_probabilities + torch.from_numpy(gumbel).to(device)).argmax(dim=1)
                taken = log_probabilities.gather(1, actions[:, None])[:, 0]
                observation, rewards, terminated, truncated, infos = self.env.step(actions.cpu().numpy())
                if step:
                    next_values[step - 1] = torch.where(columns[-1][5], next_values[step - 1], values)
                if truncated.any():
                    rows = np.flatnonzero(truncated)
                    last = {name: part[rows] for name, part in infos["final_obs"].items()}
                    final = self.agent.policy(make_batch(last, self.agent.lookahead, device))[1]
                    next_values[step, torch.from_numpy(rows).to(device)] = final
                stats.add(rewards, terminated | truncated, infos)
                ended = torch.from_numpy(terminated | truncated).to(device)
                batches.append(batch)
                columns.append(
                    (actions, taken, values, torch.from_numpy(rewards).float().to(device),
                     torch.from_numpy(terminated).to(device), ended, torch.from_numpy(infos["duration"]).to(device))
                )  # fmt: skip
            final = self.agent.policy(make_batch(observation, self.agent.lookahead, device))[1]
            next_values[-1] = torch.where(columns[-1][5], next_values[-1], final)
        actions, taken, values, rewards_, terminated_, ended_, durations = (
            torch.stack(column) for column in zip(*columns, strict=True)
        )
        seen = Batch.concatenate(batches)
        rollout = RolloutBuffer(seen, actions, taken, values, next_values, rewards_, terminated_, ended_, durations)
        return rollout, stats.metrics(self.fabric)

    def _normalize_advantages(self, advantages: Tensor) -> Tensor:
        """Mean 0 and variance 1 over all processes."""
        mean = cast(Tensor, self.fabric.all_reduce(advantages.mean()))
        variance = cast(Tensor, self.fabric.all_reduce((advantages - mean).square().mean()))
        return (advantages - mean) / (variance.sqrt() + 1e-8)

    def _update(self, rollout: RolloutBuffer, advantages: Tensor, returns: Tensor, weight: float) -> dict[str, float]:
        """Passes over an iteration's steps."""
        config, fabric = self.config.trainer, self.fabric
        per_step, world_size = config.episodes_per_iter, fabric.world_size
        total = config.steps_per_iter * per_step
        actions, acted, valued, advantages, returns = (
            part.flatten() for part in (rollout.actions, rollout.log_probabilities, rollout.values, advantages, returns)
        )
        passes = 1 if config.algorithm == "reinforce" else config.epochs
        found: list[Tensor] = []
        for number in range(passes):
            order = generator_for(config.seed, "minibatches", self.step * passes + number).permutation(total)
            before = len(found)
            for part in np.array_split(order, config.minibatches):
                step, episode = np.divmod(part, per_step)
                here = episode % world_size == fabric.global_rank
                rows = torch.from_numpy(step[here] * self.count + episode[here] // world_size).to(fabric.device)
                log_probabilities, values = self.forward(rollout.batch.select(rows))
                chosen = log_probabilities.gather(1, actions[rows, None])[:, 0]
                losses = policy_losses(
                    config, chosen, acted[rows], advantages[rows], values, valued[rows], returns[rows]
                )
                surprise = entropy(log_probabilities)
                policy, value, spread = (global_mean(x) for x in (losses.policy, losses.value, surprise))
                loss = policy + config.value_weight * value - weight * spread
                check_finite(loss.item(), self.step + 1, float(self.optimizer.param_groups[0]["lr"]))
                self.optimizer.zero_grad()
                fabric.backward(loss)
                if config.max_grad_norm:
                    fabric.clip_gradients(
                        self.forward, self.optimizer, max_norm=config.max_grad_norm, error_if_nonfinite=False
                    )
                self.optimizer.step()
                parts = (policy, value, spread, global_mean(losses.clipped), global_mean(losses.kl))
                found.append(torch.stack([x.detach() for x in parts]))
            kl = cast(Tensor, fabric.all_reduce(torch.stack(found[before:]).mean(dim=0)))[-1]
            if config.target_kl and float(kl) > config.target_kl:
                break
        means = cast(Tensor, fabric.all_reduce(torch.stack(found).mean(dim=0))).tolist()
        names = ("loss/policy", "loss/value", "train/entropy", "train/clipped", "train/kl")
        explained = 1 - (returns - valued).var() / returns.var().clamp_min(1e-8)
        return dict(zip(names, means, strict=True)) | {
            "train/explained_variance": float(explained), "train/passes": len(found) / config.minibatches,
        }  # fmt: skip

    def score(self) -> EvalMetrics:
        """Held-out problems."""
        return evaluate_policy(self.agent, self.sets.held_out, self.config.env)

    def _measure(self, log: MetricLog | None, progress: Progress) -> bool:
        """Measures held-out problems; whether the policy is the best so far."""
        found = self.score()
        config = self.config.trainer
        steps = self.step * config.episodes_per_iter * config.steps_per_iter
        self.curve = [*(point for point in self.curve if point[0] < steps), (steps, found.success)]
        if log is not None:
            log.log(self.step, found.metrics("eval"))
        progress.say(
            f"iteration {self.step}: {found.problems} held-out tasks, grounded success {found.success:.3f}, "
            f"latent only {found.latent_only:.3f}, length {found.length:.2f}, {found.length_ratio:.2f} times the "
            f"generator's"
        )
        quality = (found.success, -found.length)
        is_best = self.best is None or quality > self.best
        self.best = quality if is_best else self.best
        return is_best

    def _save(self, is_best: bool) -> None:
        if self.fabric.is_global_zero:
            save_checkpoint(self.run.checkpoints, self.state(), is_best, self.config.report.keep_last)
        self.fabric.barrier()


class EpisodeStats:
    """What became of the episodes that ended."""

    def __init__(self) -> None:
        self._running: np.ndarray | None = None
        self._sums = np.zeros(5)  # episodes, reward, length, grounded, latent only
        self._lengths: np.ndarray | None = None

    def add(self, rewards: np.ndarray, ended: np.ndarray, infos: dict[str, np.ndarray]) -> None:
        """Takes in a step of all episodes."""
        if self._running is None or self._lengths is None:
            self._running, self._lengths = np.zeros(len(rewards)), np.zeros(len(rewards))
        self._running += rewards
        self._lengths += 1
        grounded, success = infos["grounded"][ended], infos["success"][ended]
        self._sums += [
            ended.sum(), self._running[ended].sum(), self._lengths[ended].sum(), (grounded).sum(),
            (success & ~grounded).sum(),
        ]  # fmt: skip
        self._running[ended], self._lengths[ended] = 0, 0

    def metrics(self, fabric: Fabric) -> dict[str, float]:
        """Means over the episodes of all processes."""
        sums = cast(Tensor, fabric.all_reduce(torch.from_numpy(self._sums), reduce_op="sum")).tolist()
        count = max(sums[0], 1)
        names = ("episode_reward_mean", "length", "success", "latent_only")
        means = {f"train/{name}": value / count for name, value in zip(names, sums[1:], strict=True)}
        return means | {"train/episodes": sums[0]}
