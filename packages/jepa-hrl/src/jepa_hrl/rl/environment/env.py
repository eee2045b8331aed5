"""The latent reasoning environment for gymnasium: one episode at a time, or many that are stepped together."""

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


def make_observation_space(cache: TransitionCache, config: EnvConfig, choices: int) -> spaces.Dict:
    """Returns the observation space of one episode.

    Args:
        cache: says how many channels a latent has.
        config: says how many demonstrations there are.
        choices: C, length of the action mask.
    """
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
    """An environment in which an agent turns a task's inputs into its outputs, action by action.

    ## Description
    Each action is a primitive of the language with its arguments filled in. It is applied to the inputs of all K
    demonstrations at once. The agent observes latents of a program-conditioned JEPA, never grids. The actions taken
    form a program; the task is solved when it turns every input into its output.

    ## Action Space
    `Discrete(A + 1)`: the A actions of the JEPA's checkpoint, and last stopping. With `undo: true` it is
    `Discrete(A + 2)`; the last but one undoes the previous action, which counts as a step. The observation's
    `action_mask` allows an action only if it turns the first demonstration's grid into one not yet visited in this
    episode, and if it was not refused since the last change. `recolor` infers its table of colours from the grids and
    the goals, and is allowed where such a table gives the goals.

    ## Observation Space
    `Dict`: `current` and `goal`, (K, D) latents of the demonstrations' grids and goals; `step`, (1,) share of the
    steps taken; `action_mask`, (A + 1,) or (A + 2,) of 0 and 1.

    ## Starting State
    The inputs of a task drawn at random; `options={"puzzle": n}` chooses the task by index.

    ## Rewards
    `success_bonus` on reaching the goals; minus `step_penalty` and `simplicity_weight` times the action's description
    length in bits, for every action but stopping; plus the optional potential-based shaping.

    ## Episode End
    Terminated: the goals are reached, or the agent stops. With `dynamics: model` they are reached when every predicted
    latent is nearer than `success_distance`, with `dynamics: grounded` when the real grids are equal. Truncated:
    `max_steps` actions are taken.

    ## Information
    `grounded`: whether the real grids equal the goals, whatever the latents say; `success`: whether the bonus was paid;
    `distance`: cosine distance to the goals, mean over demonstrations; `refused`: whether the action was impossible and
    changed nothing; `duration`: actions done, more than one for an option. `reset` gives `puzzle`, the task's id.

    ## Arguments
    `cache`: world model, actions and transitions; `problems`: tasks to draw from; `config`: see `EnvConfig`;
    `render_mode`: "ansi" for coloured text, "rgb_array" for pixels, of the first demonstration's real grid beside its
    goal; `options`: sequences of actions that are choices of their own, indexed between the actions and stopping.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}  # noqa: RUF012 (as gymnasium declares it)

    def __init__(
        self, cache: TransitionCache, problems: Sequence[Problem], config: EnvConfig, render_mode: str | None = None,
        options: Options = (),
    ) -> None:  # fmt: skip
        self.episodes = BatchedEpisodes(cache, problems, config, 1, options)
        choices = self.episodes.stop + 1
        self.observation_space = make_observation_space(cache, config, choices)
        self.action_space = spaces.Discrete(choices)
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode, of a random task or of `options["puzzle"]`."""
        super().reset(seed=seed)
        drawn = self.np_random.integers(len(self.episodes.problems))
        index = int(options["puzzle"]) if options and "puzzle" in options else int(drawn)
        self.episodes.reset([0], np.array([index]))
        return _first_row(self.episodes.observation()), {"puzzle": self.episodes.problems[index].name}

    def step(self, action: np.int64) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Takes an action; see the class for what is returned."""
        result = self.episodes.step(np.array([action], dtype=np.int64))
        info = {name: values[0] for name, values in step_info(result).items()}
        return (
            _first_row(self.episodes.observation()), float(result.reward[0]), bool(result.terminated[0]),
            bool(result.truncated[0]), info,
        )  # fmt: skip

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Returns the (A + 1,) or (A + 2,) mask of allowed actions, under the name that sb3-contrib asks for."""
        mask: npt.NDArray[np.bool_] = self.episodes.mask[0].astype(bool)
        return mask

    def render(self) -> Any:
        """Renders the first demonstration's real grid beside its goal."""
        cache, episodes = self.episodes.cache, self.episodes
        grid, goal = cache.grids[episodes.grids[0, 0]], cache.grids[episodes.goals[0, 0]]
        if self.render_mode == "ansi":
            console = Console(force_terminal=True, color_system="truecolor", width=120, file=io.StringIO())
            with console.capture() as shown:
                console.print(grids_to_text([("now", grid), ("goal", goal)], True, console.width), crop=False)
            return shown.get()
        if self.render_mode == "rgb_array":
            return _render_pixels(grid, goal)
        return None


def _first_row(observation: Observation) -> dict[str, Any]:
    return {name: values[0] for name, values in observation.items()}


def step_info(result: StepResult) -> dict[str, npt.NDArray[Any]]:
    """Returns the entries of a step's `info`, (N,) each."""
    return {
        "grounded": result.grounded, "success": result.success, "distance": result.distance,
        "refused": result.refused, "duration": result.duration,
    }  # fmt: skip


def _render_pixels(grid: npt.NDArray[np.uint8], goal: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns the (H, W, 3) picture of both grids side by side."""
    colors = np.array([[int(name[n : n + 2], 16) for n in (1, 3, 5)] for name in PALETTE], dtype=np.uint8)
    pictures = [colors[np.kron(one, np.ones((_CELL, _CELL), dtype=np.uint8))] for one in (grid, goal)]
    tall = max(len(picture) for picture in pictures)
    padded = [np.pad(p, ((0, tall - len(p)), (0, 0), (0, 0)), constant_values=255) for p in pictures]
    between = np.full((tall, _GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([padded[0], between, padded[1]], axis=1)


class LatentReasoningVectorEnv(VectorEnv[dict[str, Any], Any, Any]):
    """Many episodes of `LatentReasoningEnv` stepped together, their latents predicted in one pass of the model.

    The trajectories are those of as many single environments with the seeds that `gymnasium.vector.SyncVectorEnv`
    would give them. An episode that ends is reset within the step: its last observation is in `infos["final_obs"]`,
    which is valid in the rows where `infos["_final_obs"]` is true, and `infos` describe the step that ended it.
    """

    metadata = {**LatentReasoningEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self, cache: TransitionCache, problems: Sequence[Problem], config: EnvConfig, num_envs: int,
        options: Options = (),
    ) -> None:  # fmt: skip
        """Allocates the episodes; `reset` starts them. For the arguments see `LatentReasoningEnv`."""
        self.episodes = BatchedEpisodes(cache, problems, config, num_envs, options)
        self.num_envs = num_envs
        choices = self.episodes.stop + 1
        self.single_observation_space = make_observation_space(cache, config, choices)
        self.single_action_space = spaces.Discrete(choices)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts all episodes; an integer seed n means n, n + 1, ... for the episodes in turn."""
        seeds: Sequence[int | None]
        if seed is None:
            seeds = [None] * self.num_envs
        else:
            seeds = list(range(seed, seed + self.num_envs)) if isinstance(seed, int) else seed
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed must be a number or one for each of {self.num_envs} episodes; got {len(seeds)}")
        old_generators = self._generators or [np.random.default_rng() for _ in seeds]
        self._generators = [
            old if new is None else gymnasium.utils.seeding.np_random(new)[0]
            for old, new in zip(old_generators, seeds, strict=True)
        ]
        self._reset_rows(range(self.num_envs))
        return dict(self.episodes.observation()), {}

    def _reset_rows(self, rows: Sequence[int]) -> None:
        count = len(self.episodes.problems)
        indices = np.array([int(self._generators[row].integers(count)) for row in rows], dtype=np.int64)
        self.episodes.reset(list(rows), indices)

    def step(
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[dict[str, Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Takes an action in every episode, and resets those that end."""
        result = self.episodes.step(np.asarray(actions, dtype=np.int64))
        infos: dict[str, Any] = dict(step_info(result))
        ended = result.terminated | result.truncated
        observation = self.episodes.observation()
        if ended.any():
            infos["final_obs"], infos["_final_obs"] = observation, ended
            self._reset_rows(np.flatnonzero(ended).tolist())
            observation = self.episodes.observation()
        return dict(observation), result.reward.astype(np.float64), result.terminated, result.truncated, infos
