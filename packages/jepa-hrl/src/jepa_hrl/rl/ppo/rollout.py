"""The rollout of an iteration: episodes played by the current policy. T steps, N episodes of this process."""

from typing import NamedTuple, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.randomness import generator_for
from jepa_hrl.rl.config import TrainerConfig
from jepa_hrl.rl.environment.env import LatentReasoningVectorEnv
from jepa_hrl.rl.policy.actor_critic import Batch
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.evaluation import make_batch


class RolloutBuffer(NamedTuple):
    """The steps of an iteration. Tensors are (T, N); the observations are T * N rows, step after step.

    Attributes:
        batch: observations that actions were chosen on.
        next_values: of the observations that the choices led to, see `compute_gae`.
        actions: int64 choices.
        log_prob: log-probabilities of these choices.
        values: of the observations.
        rewards: of the choices.
        terminated, ended: bool; the latter also where an episode was truncated.
        durations: int64 actions that each choice took.
    """

    batch: Batch
    next_values: Tensor
    actions: Tensor
    log_prob: Tensor
    values: Tensor
    rewards: Tensor
    terminated: Tensor
    ended: Tensor
    durations: Tensor


class EpisodeStats:
    """Sums over the episodes that ended during a rollout."""

    def __init__(self, count: int) -> None:
        """Starts counting.

        Args:
            count: N.
        """
        self._reward, self._length = np.zeros(count), np.zeros(count)  # of the running episodes
        self._sums = np.zeros(5)  # episodes, reward, length, grounded, latent only

    def add(self, rewards: np.ndarray, ended: np.ndarray, infos: dict[str, np.ndarray]) -> None:
        """Adds a step of all episodes.

        Args:
            rewards: (N,).
            ended: (N,) bool, terminated or truncated.
            infos: what the environment returned, with (N,) `grounded` and `success`.
        """
        self._reward += rewards
        self._length += 1
        grounded, success = infos["grounded"][ended], infos["success"][ended]
        self._sums += [
            ended.sum(), self._reward[ended].sum(), self._length[ended].sum(), grounded.sum(),
            (success & ~grounded).sum(),
        ]  # fmt: skip
        self._reward[ended], self._length[ended] = 0, 0

    def metrics(self, fabric: Fabric) -> dict[str, float]:
        """Returns the means over the ended episodes of all processes, and the episodes' number."""
        sums = cast(Tensor, fabric.all_reduce(torch.from_numpy(self._sums), reduce_op="sum")).tolist()
        count = max(sums[0], 1)
        names = ("episode_reward_mean", "length", "success", "latent_only")
        means = {f"train/{name}": value / count for name, value in zip(names, sums[1:], strict=True)}
        return means | {"train/episodes": sums[0]}


@torch.no_grad()
def collect_rollout(
    agent: Agent, env: LatentReasoningVectorEnv, config: TrainerConfig, iteration: int, fabric: Fabric
) -> tuple[RolloutBuffer, dict[str, float]]:
    """Plays episodes with the current policy, whose choices are sampled.

    Every process draws the random numbers of all episodes and uses its own share, so that the episodes do not depend
    on the number of processes.

    Args:
        agent: policy and world model.
        env: N environments of this process.
        config: steps, episodes and seed.
        iteration: index of the iteration, which names the random streams.
        fabric: processes and device.
    Returns:
        The rollout, and the metrics of the episodes that ended in it.
    """
    total, device = config.episodes_per_iter, fabric.device
    own_share = slice(fabric.global_rank, None, fabric.world_size)
    agent.cache.forget()
    seeds = generator_for(config.seed, "episodes", iteration).integers(2**31, size=total)[own_share]
    observation, _ = env.reset(seed=seeds.tolist())
    batches: list[Batch] = []
    steps: list[tuple[Tensor, ...]] = []
    stats = EpisodeStats(env.num_envs)
    next_values = torch.zeros((config.steps_per_iter, env.num_envs), device=device)
    ended = torch.zeros(env.num_envs, dtype=torch.bool, device=device)
    for step in range(config.steps_per_iter):
        batch = make_batch(observation, agent.lookahead, device)
        log_probabilities, values = agent.policy(batch)
        if step:
            next_values[step - 1] = torch.where(ended, next_values[step - 1], values)
        # Adding Gumbel noise and taking the maximum samples from the distribution.
        noise = generator_for(config.seed, "actions", iteration * config.steps_per_iter + step)
        gumbel = noise.gumbel(size=(total, env.episodes.stop + 1))[own_share].astype(np.float32)
        actions = (log_probabilities + torch.from_numpy(gumbel).to(device)).argmax(dim=1)
        log_prob = log_probabilities.gather(1, actions[:, None])[:, 0]
        observation, rewards, terminated, truncated, infos = env.step(actions.cpu().numpy())
        if truncated.any():
            rows = np.flatnonzero(truncated)
            last = {name: part[rows] for name, part in infos["final_obs"].items()}
            last_values = agent.policy(make_batch(last, agent.lookahead, device))[1]
            next_values[step, torch.from_numpy(rows).to(device)] = last_values
        stats.add(rewards, terminated | truncated, infos)
        ended = torch.from_numpy(terminated | truncated).to(device)
        batches.append(batch)
        steps.append(
            (actions, log_prob, values, torch.from_numpy(rewards).float().to(device),
             torch.from_numpy(terminated).to(device), ended, torch.from_numpy(infos["duration"]).to(device))
        )  # fmt: skip
    last_values = agent.policy(make_batch(observation, agent.lookahead, device))[1]
    next_values[-1] = torch.where(ended, next_values[-1], last_values)
    columns = [torch.stack(column) for column in zip(*steps, strict=True)]
    rollout = RolloutBuffer._make([Batch.concatenate(batches), next_values, *columns])
    return rollout, stats.metrics(fabric)
