"""Compares the latent environment and PPO on it with the ordinary alternatives, in the same run.

Steps: `LatentReasoningVectorEnv` against gymnasium's SyncVectorEnv over as many single environments, with the same
random actions and one cache of latents. Learning: our PPO against sb3-contrib's MaskablePPO, wall time from random
weights to the same grounded success on the same problems, with the same trunk and look-ahead and heads of its own.

Example: uv run tools/bench_rl.py --checkpoint runs/program-jepa/quick-... --repeats 3
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from lightning_fabric import Fabric
from rich.console import Console

from arc_core.config import workspace_folder
from arc_core.runs import RunFolder, git_commit, newest_run
from jepa_hrl.jepa.data.tasks import curriculum_manifest
from jepa_hrl.rl.config import EnvConfig, PolicyConfig, ReasonerConfig, TrainerConfig
from jepa_hrl.rl.environment.datasets import ProblemSets
from jepa_hrl.rl.environment.env import LatentReasoningEnv, LatentReasoningVectorEnv
from jepa_hrl.rl.environment.problems import Problem, load_problems
from jepa_hrl.rl.environment.transition_cache import TransitionCache
from jepa_hrl.rl.policy.actor_critic import Batch, OneStepLookahead, Policy
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.evaluation import evaluate_policy
from jepa_hrl.rl.ppo.trainer import Trainer
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa, load_program_jepa


def make_cache(jepa: LoadedProgramJepa) -> TransitionCache:
    return TransitionCache(jepa.model, jepa.actions, jepa.config.object_encoder, jepa.device)


def drive(env: Any, steps: int) -> tuple[float, float]:
    """Runs random legal actions; returns the steps per second, and the mean reward, which must be equal for both."""
    generator = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    total, elapsed = 0.0, 0.0
    for _ in range(steps):
        mask = observation["action_mask"]
        actions = (generator.random(mask.shape) * mask).argmax(axis=1)
        start = time.perf_counter()
        observation, reward, *_ = env.step(actions)
        elapsed += time.perf_counter() - start
        total += float(np.mean(reward))
    return steps * len(mask) / elapsed, total / steps


def bench_steps(jepa: LoadedProgramJepa, problems: list[Problem], dynamics: Any, count: int, repeats: int) -> None:
    config, rates = EnvConfig(dynamics=dynamics), {"together": [], "one by one": []}  # type: ignore[var-annotated]
    cache = make_cache(jepa)  # shared by both, so that all transitions are cached after the first round
    together = LatentReasoningVectorEnv(cache, problems, config, count)
    single = SyncVectorEnv(
        [lambda: LatentReasoningEnv(cache, problems, config)] * count, autoreset_mode=AutoresetMode.SAME_STEP
    )
    drive(together, 12)
    for _ in range(repeats):
        ours, our_reward = drive(together, 12)
        theirs, their_reward = drive(single, 12)
        assert abs(our_reward - their_reward) < 1e-4, (our_reward, their_reward)
        rates["together"].append(ours)
        rates["one by one"].append(theirs)
    ours, theirs = (statistics.median(rates[name]) for name in rates)
    print(
        f"{dynamics:9} {count} environments: {ours:9,.0f} steps/s together, {theirs:7,.0f} one by one, "
        f"{ours / theirs:.1f} times"
    )


def train_ours(
    jepa: LoadedProgramJepa, problems: list[Problem], target: float, seed: int, max_seconds: float
) -> tuple[float, float]:
    """Trains our PPO until it reaches the target success on all problems.

    Args:
        jepa: the program-conditioned JEPA.
        problems: problems to train and evaluate on.
        target: grounded success at which to stop, 0..1.
        seed: seed of the training.
        max_seconds: seconds after which to stop in any case.
    Returns:
        Seconds of training without evaluation, and the success that was reached.
    """
    trainer = TrainerConfig(episodes_per_iter=128, steps_per_iter=8, iterations=400, lr=1e-3, seed=seed)
    config = ReasonerConfig(env=EnvConfig(dynamics="grounded"), policy=PolicyConfig(128), trainer=trainer)
    with tempfile.TemporaryDirectory() as folder:
        fabric = Fabric(accelerator="cpu", devices=1)
        fabric.launch()
        sets = ProblemSets(problems, problems, (), "")
        learner = Trainer(config, Agent(jepa, config.policy, seed), sets, RunFolder(Path(folder)), fabric)
        elapsed = 0.0
        while elapsed < max_seconds:
            start = time.perf_counter()
            for _ in range(4):
                learner.iteration()
            elapsed += time.perf_counter() - start
            reached = evaluate_policy(learner.agent, problems, config.env).success
            if reached >= target:
                break
    return elapsed, reached


def train_maskable_ppo(
    jepa: LoadedProgramJepa, problems: list[Problem], target: float, seed: int, max_seconds: float
) -> tuple[float, float]:
    """Trains MaskablePPO in the same way; its environments share one transition cache too.

    Args:
        jepa, problems, target, seed, max_seconds: as for `train_ours`.
    Returns:
        Seconds of training without evaluation, and the success that was reached.
    """
    from sb3_contrib import MaskablePPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    env = EnvConfig(dynamics="grounded")
    cache = make_cache(jepa)
    envs = DummyVecEnv([lambda: LatentReasoningEnv(cache, problems, env)] * 128)
    learner = MaskablePPO(
        "MultiInputPolicy", envs, n_steps=8, batch_size=128, n_epochs=4, learning_rate=1e-3, gamma=0.95,
        gae_lambda=0.9, ent_coef=0.01, target_kl=0.03, seed=seed, device="cpu",
        policy_kwargs={"features_extractor_class": make_extractor(), "features_extractor_kwargs": {"jepa": jepa},
                       "net_arch": []},
    )  # fmt: skip
    agent = _AgentAdapter(jepa, learner)
    elapsed, reached = 0.0, 0.0
    while elapsed < max_seconds:
        start = time.perf_counter()
        learner.learn(4 * 8 * 128, reset_num_timesteps=False)
        elapsed += time.perf_counter() - start
        reached = evaluate_policy(agent, problems, env).success  # type: ignore[arg-type]
        if reached >= target:
            break
        cache.forget()
        envs.reset()
    return elapsed, reached


def make_extractor() -> Any:
    """Makes a features extractor of stable-baselines3 from our policy's trunk."""
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    class Features(BaseFeaturesExtractor):
        def __init__(self, space: Any, jepa: LoadedProgramJepa) -> None:
            super().__init__(space, 128)
            cache = make_cache(jepa)
            self.lookahead = OneStepLookahead(jepa.model, cache.action_vectors, jepa.actions.recolor)
            self.trunk = Policy(cache.latent_dim, len(jepa.actions), 128, True)

        def forward(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
            mask = observation["action_mask"].bool()
            current, goal = observation["current"], observation["goal"]
            batch = Batch(current, goal, observation["step"], mask, self.lookahead(current, goal, mask))
            return self.trunk.features(batch)

    return Features


class _AgentAdapter:
    """Adapts a policy of stable-baselines3 to the interface that `evaluate_policy` expects."""

    def __init__(self, jepa: LoadedProgramJepa, learner: Any) -> None:
        self.cache, self.options, self.lookahead = make_cache(jepa), (), None
        self._learner = learner

    def policy(self, batch: Batch) -> tuple[torch.Tensor, None]:
        observation = {
            "current": batch.current, "goal": batch.goal, "step": batch.step, "action_mask": batch.mask.float()
        }  # fmt: skip
        distribution = self._learner.policy.get_distribution(observation, action_masks=batch.mask.numpy())
        return distribution.distribution.logits, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    newest = newest_run(workspace_folder() / "runs", "program-jepa")
    parser.add_argument("--checkpoint", type=Path, default=newest.path if newest else None)
    parser.add_argument("--count", type=int, default=256, help="environments side by side")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--target", type=float, default=0.8, help="grounded success to reach")
    parser.add_argument("--puzzles", type=int, default=200, help="number of problems of one and two actions to learn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--most", type=float, default=240.0, dest="max_seconds", help="seconds for each training")
    parser.add_argument("--only", choices=("steps", "learning"))
    args = parser.parse_args()
    jepa = load_program_jepa(args.checkpoint, torch.device("cpu"))
    problems = load_problems(curriculum_manifest("active_quick", Console()), jepa.actions, 3)
    print(f"commit {git_commit()}, {torch.get_num_threads()} threads")
    if args.only != "learning":
        for dynamics in ("model", "grounded"):
            bench_steps(jepa, problems, dynamics, args.count, args.repeats)
    if args.only != "steps":
        easy = [problem for problem in problems if len(problem.trace) in (1, 2)][: args.puzzles]
        times: dict[str, list[float]] = {"ours": [], "MaskablePPO": []}
        for seed in args.seeds:
            for name, train in (("ours", train_ours), ("MaskablePPO", train_maskable_ppo)):
                seconds, reached = train(jepa, easy, args.target, seed, args.max_seconds)
                times[name].append(seconds)
                print(
                    f"seed {seed} {name:12} {seconds:6.1f} s to grounded success {reached:.3f} (target {args.target})",
                    flush=True,
                )
        ratios = [theirs / mine for mine, theirs in zip(times["ours"], times["MaskablePPO"], strict=True)]
        print(f"ours is {statistics.median(ratios):.1f} times faster (median; {min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
