"""The latent reasoning environment for gymnasium, one episode at a time and many at once."""

import io
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from rich.console import Console

from arc_core.render import PALETTE, grids_to_text
from jepa_hrl.rl.config import EnvConfig
from jepa_hrl.rl.environment.episodes import LATENT_BOUND, BatchedEpisodes, Observation, Options, StepResult
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.environment.transition_cache import TransitionCache

_CELL, _GAP = 12, 24  # pixels


def observation_space(cache: TransitionCache, config: EnvConfig, choices: int) -> spaces.Dict:
    """Of one episode."""
    shape = (config.demonstrations, cache.latent_dim)
    return spaces.Dict(
        {
            "current": spaces.Box(-LATENT_BOUND, LATENT_BOUND, shape, np.float32),
            "goal": spaces.Box(-LATENT_BOUND, LATENT_BOUND, shape, np.float32),
            "step": spaces.Box(0.0, 1.0, (1,), np.float32),
            "action_mask": spaces.MultiBinary(choices),
        }
    )


class LatentReasoningEnv(gymnasium.Env[dict[str, Any], np.int64]):
    """Turning a task's inputs into its outputs, seen through the latents of a program-conditioned JEPA.

    ## Description
    A task's demonstrations are worked on at once: each action, a primitive of the language with its arguments filled
    in, is applied to all of their inputs. The agent sees latents, never grids. The actions taken are a program, and
    one that turns every input into its output solves the task.

    ## Action Space
    `Discrete(A + 1)`: the A grounded primitives of the JEPA's checkpoint, and last the action of stopping; with
    `undo: true` `Discrete(A + 2)`, the last but one takes back the last primitive, which is a step too. The
    observation's `action_mask` tells which of them make a grid of the first demonstration's that it has not been in
    this episode, and were not refused since the last change. `recolor` infers its table of colours from grids and
    goals, and is possible where one gives the goals.

    ## Observation Space
    `Dict`: `current` and `goal`, (K, D) latents of K demonstrations; `step`, the share of the steps taken;
    `action_mask`, (A + 1,) or (A + 2,) 0 or 1.

    ## Starting State
    A task drawn at random (`options={"puzzle": n}` chooses it), with its inputs' latents.

    ## Rewards
    `success_bonus` on reaching the goals, minus `step_penalty` and `simplicity_weight` times the description length
    in bits for every action but stopping, plus the optional shaping.

    ## Episode End
    Terminated: the goals are reached, or the agent stops. With `dynamics: model` they are reached when every foreseen
    latent is nearer than `success_distance`, with `dynamics: grounded` when the real grids are equal. Truncated:
    `max_steps` actions are taken.

    ## Information
    `grounded`: whether the real grids equal the goals, whatever the latents say; `success`: what the bonus was paid
    for; `distance`: mean over demonstrations; `refused`: the action was impossible and changed nothing; `duration`:
    actions done, of which options have several.

    ## Arguments
    `cache`: JEPA and actions; `problems`: tasks to draw from; `config`: see `EnvConfig`; `render_mode`: "ansi" for
    coloured text, "rgb_array" for pixels, of the first demonstration's real grid beside its goal; `options`: sequences
    of actions that stand as choices of their own between the actions and stopping.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}  # noqa: RUF012 (as gymnasium declares it)

    def __init__(
        self, cache: TransitionCache, problems: Sequence[Problem], config: EnvConfig, render_mode: str | None = None,
        options: Options = (),
    ) -> None:  # fmt: skip
        self.episodes = BatchedEpisodes(cache, problems, config, 1, options)
        choices = self.episodes.stop + 1
        self.observation_space = observation_space(cache, config, choices)
        self.action_space = spaces.Discrete(choices)
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begins an episode."""
        super().reset(seed=seed)
        drawn = self.np_random.integers(len(self.episodes.problems))
        number = int(options["puzzle"]) if options and "puzzle" in options else int(drawn)
        self.episodes.reset([0], np.array([number]))
        return _first(self.episodes.observation()), {"puzzle": self.episodes.problems[number].name}

    def step(self, action: np.int64) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Takes an action."""
        found = self.episodes.step(np.array([action], dtype=np.int64))
        info = {name: values[0] for name, values in information(found).items()}
        return (
            _first(self.episodes.observation()), float(found.reward[0]), bool(found.terminated[0]),
            bool(found.truncated[0]), info,
        )  # fmt: skip

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(A + 1,) or, with `undo`, (A + 2,) what may be done now, where sb3-contrib looks for it."""
        mask: npt.NDArray[np.bool_] = self.episodes.mask[0].astype(bool)
        return mask

    def render(self) -> Any:
        """The first demonstration's real grid beside its goal."""
        cache, episodes = self.episodes.cache, self.episodes
        grid, goal = cache.grids[episodes.grids[0, 0]], cache.grids[episodes.goals[0, 0]]
        if self.render_mode == "ansi":
            console = Console(force_terminal=True, color_system="truecolor", width=120, file=io.StringIO())
            with console.capture() as shown:
                console.print(grids_to_text([("now", grid), ("goal", goal)], True, console.width), crop=False)
            return shown.get()
        if self.render_mode == "rgb_array":
            return _pixels(grid, goal)
        return None


def _first(observation: Observation) -> dict[str, Any]:
    return {name: values[0] for name, values in observation.items()}


def information(found: StepResult) -> dict[str, npt.NDArray[Any]]:
    """What a step's `info` says, (N,) each."""
    return {
        "grounded": found.grounded, "success": found.success, "distance": found.distance, "refused": found.refused,
        "duration": found.duration,
    }  # fmt: skip


def _pixels(grid: npt.NDArray[np.uint8], goal: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) both grids side by side."""
    colors = np.array([[int(name[n : n + 2], 16) for n in (1, 3, 5)] for name in PALETTE], dtype=np.uint8)
    pictures = [colors[np.kron(one, np.ones((_CELL, _CELL), dtype=np.uint8))] for one in (grid, goal)]
    tall = max(len(picture) for picture in pictures)
    padded = [np.pad(p, ((0, tall - len(p)), (0, 0), (0, 0)), constant_values=255) for p in pictures]
    between = np.full((tall, _GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([padded[0], between, padded[1]], axis=1)


class LatentReasoningVectorEnv(VectorEnv[dict[str, Any], Any, Any]):
    """Many episodes of `LatentReasoningEnv` stepped together, their latents foreseen in one pass of the model.

    The trajectories are those of as many single environments with the seeds that `gymnasium.vector.SyncVectorEnv`
    would give them. An episode that ends begins anew within the step: its last observation is in
    `infos["final_obs"]`, whose rows count where `infos["_final_obs"]` is true, and `infos` are of the step that ended
    it.
    """

    metadata = {**LatentReasoningEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        cache: TransitionCache,
        problems: Sequence[Problem],
        config: EnvConfig,
        num_envs: int,
        options: Options = (),
    ) -> None:
        self.episodes = BatchedEpisodes(cache, problems, config, num_envs, options)
        self.num_envs = num_envs
        choices = self.episodes.stop + 1
        self.single_observation_space = observation_space(cache, config, choices)
        self.single_action_space = spaces.Discrete(choices)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._randoms: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begins all episodes; a number as seed means that and those after it."""
        seeds: Sequence[int | None]
        if seed is None:
            seeds = [None] * self.num_envs
        else:
            seeds = list(range(seed, seed + self.num_envs)) if isinstance(seed, int) else seed
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed must be a number or one for each of {self.num_envs} episodes; got {len(seeds)}")
        kept = self._randoms or [np.random.default_rng() for _ in seeds]
        self._randoms = [
            old if new is None else gymnasium.utils.seeding.np_random(new)[0]
            for old, new in zip(kept, seeds, strict=True)
        ]
        self._reset_rows(range(self.num_envs))
        return dict(self.episodes.observation()), {}

    def _reset_rows(self, rows: Sequence[int]) -> None:
        count = len(self.episodes.problems)
        chosen = np.array([int(self._randoms[row].integers(count)) for row in rows], dtype=np.int64)
        self.episodes.reset(list(rows), chosen)

    def step(
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[dict[str, Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Takes an action in every episode."""
        found = self.episodes.step(np.asarray(actions, dtype=np.int64))
        infos: dict[str, Any] = dict(information(found))
        ended = found.terminated | found.truncated
        observation = self.episodes.observation()
        if ended.any():
            infos["final_obs"], infos["_final_obs"] = observation, ended
            self._reset_rows(np.flatnonzero(ended).tolist())
            observation = self.episodes.observation()
        return dict(observation), found.reward.astype(np.float64), found.terminated, found.truncated, infos
