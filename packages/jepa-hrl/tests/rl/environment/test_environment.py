"""The latent environment: its contract, its dynamics, undoing and options."""

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from arc_core.errors import InputError
from jepa_hrl.rl.config import EnvConfig, RewardConfig
from jepa_hrl.rl.environment.env import LatentReasoningEnv, LatentReasoningVectorEnv
from jepa_hrl.rl.environment.episodes import BatchedEpisodes
from jepa_hrl.rl.environment.problems import Problem
from jepa_hrl.rl.environment.transition_cache import REFUSED, TransitionCache
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

GROUNDED = EnvConfig(dynamics="grounded", max_steps=5)


def draw(generator: np.random.Generator, mask: np.ndarray) -> int:
    """A random action that is possible, stopping rarely."""
    possible = np.flatnonzero(mask[:-1])
    return int(generator.choice(possible)) if len(possible) and generator.random() < 0.9 else len(mask) - 1


@pytest.mark.parametrize(("dynamics", "undo"), [("model", False), ("grounded", True)])
def test_the_environment_keeps_gymnasiums_contract(
    transitions: TransitionCache, problems: list[Problem], dynamics: Any, undo: bool
) -> None:
    env = LatentReasoningEnv(transitions, problems, EnvConfig(dynamics=dynamics, undo=undo), render_mode="ansi")
    assert env.action_space.n == len(transitions.actions) + 1 + undo  # type: ignore[attr-defined]
    check_env(env, skip_render_check=True)  # warnings are errors here
    env.reset(seed=1)
    assert "now" in env.render() and "\x1b[" in env.render()
    drawn = LatentReasoningEnv(transitions, problems, EnvConfig(), render_mode="rgb_array")
    drawn.reset(seed=1)
    picture = drawn.render()
    grid, goal = (transitions.grids[drawn.episodes.grids[0, 0]], transitions.grids[drawn.episodes.goals[0, 0]])
    assert picture.dtype == np.uint8 and picture.shape[0] == 12 * max(len(grid), len(goal))
    assert picture.shape[1] == 12 * (grid.shape[1] + goal.shape[1]) + 24


def test_gymnasium_makes_it_from_files(jepa_file: Path, curriculum: Path) -> None:
    env = gymnasium.make(
        "arc/LatentReasoning-v0", checkpoint=str(jepa_file), manifest=str(curriculum), dynamics="grounded", max_steps=3
    )
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    many = gymnasium.make_vec("arc/LatentReasoning-v0", num_envs=4, checkpoint=str(jepa_file), manifest=str(curriculum))
    observations, _ = many.reset(seed=0)
    assert many.observation_space.contains(observations)
    with pytest.raises(InputError, match="dynamics must be one of"):
        gymnasium.make("arc/LatentReasoning-v0", checkpoint=str(jepa_file), manifest=str(curriculum), dynamics="dreamt")


def test_a_seed_gives_the_same_episode(jepa: LoadedProgramJepa, problems: list[Problem]) -> None:
    found = []
    for _ in range(2):
        env = LatentReasoningEnv(
            TransitionCache(jepa.model, jepa.actions, jepa.config.object_encoder, jepa.device), problems, EnvConfig()
        )
        generator, texts = np.random.default_rng(0), []
        observation, info = env.reset(seed=7)
        for _ in range(20):
            texts.append((info.get("puzzle"), observation["current"].tobytes(), observation["action_mask"].tobytes()))
            observation, reward, terminated, truncated, info = env.step(np.int64(draw(generator, env.action_masks())))
            texts.append((reward, terminated, truncated))
            if terminated or truncated:
                observation, info = env.reset()
        found.append(texts)
    assert found[0] == found[1]


@pytest.mark.parametrize(("dynamics", "undo"), [("model", False), ("grounded", False), ("model", True)])
def test_many_episodes_together_are_many_single_ones(
    jepa: LoadedProgramJepa, problems: list[Problem], dynamics: Any, undo: bool
) -> None:
    config, count = EnvConfig(dynamics=dynamics, max_steps=4, undo=undo), 256
    caches = [TransitionCache(jepa.model, jepa.actions, jepa.config.object_encoder, jepa.device) for _ in range(2)]
    together = LatentReasoningVectorEnv(caches[0], problems, config, count)
    single = SyncVectorEnv(
        [lambda: LatentReasoningEnv(caches[1], problems, config)] * count, autoreset_mode=AutoresetMode.SAME_STEP
    )
    ours, _ = together.reset(seed=3)
    theirs, _ = single.reset(seed=3)
    generator, ended = np.random.default_rng(0), 0
    for _ in range(9):
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5, err_msg=name)
        actions = np.array([draw(generator, mask) for mask in ours["action_mask"]])
        ours, *mine_, info = together.step(actions)
        theirs, *others, other_info = single.step(actions)
        for one, other in zip(mine_, others, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        over = mine_[1] | mine_[2]
        ended += int(over.sum())
        if over.any():
            rows = np.flatnonzero(info["_final_obs"])
            assert np.array_equal(rows, np.flatnonzero(other_info["_final_obs"]))
            for row in rows:
                for name, last in other_info["final_obs"][row].items():
                    np.testing.assert_allclose(info["final_obs"][name][row], last, atol=1e-5)
    assert ended > count


def test_known_programs_succeed_on_real_grids_and_are_paid_for_it(
    transitions: TransitionCache, problems: list[Problem]
) -> None:
    traced = [number for number, problem in enumerate(problems) if problem.trace]
    assert len(traced) > 0.9 * len(problems)
    reward = RewardConfig(step_penalty=0.5, simplicity_weight=0.1, success_bonus=10)
    env = LatentReasoningEnv(transitions, problems, EnvConfig(dynamics="grounded", reward=reward))
    for number in traced[:20]:
        env.reset(options={"puzzle": number})
        for index, action in enumerate(problems[number].trace):
            assert env.action_masks()[action]
            _, paid, terminated, truncated, info = env.step(np.int64(action))
            last = index + 1 == len(problems[number].trace)
            assert (terminated, truncated, bool(info["grounded"]), bool(info["success"])) == (last, False, last, last)
            bits = transitions.actions.actions[action].bits
            assert paid == pytest.approx(10 * last - 0.5 - 0.1 * bits, rel=1e-5)
        assert info["distance"] == pytest.approx(0, abs=1e-5)


def test_stopping_terminates_and_running_out_of_steps_truncates(
    transitions: TransitionCache, problems: list[Problem]
) -> None:
    env = LatentReasoningEnv(transitions, problems, EnvConfig(dynamics="grounded", max_steps=2))
    env.reset(seed=0)
    _, reward, terminated, truncated, _ = env.step(np.int64(len(transitions.actions)))
    assert (reward, terminated, truncated) == (0.0, True, False)
    number = next(n for n, problem in enumerate(problems) if problem.length == 2)
    env.reset(options={"puzzle": number})
    names = ("flip_horizontal", "rotate_90")
    endings = [env.step(np.int64(transitions.actions.indices[name]))[2:4] for name in names]
    assert endings in ([(False, False), (False, True)], [(False, False), (True, False)])


def test_success_in_latents_alone_is_told_from_real_success(
    transitions: TransitionCache, problems: list[Problem]
) -> None:
    everything = RewardConfig(success_distance=3.0)  # every latent counts as near
    env = LatentReasoningEnv(transitions, problems, EnvConfig(dynamics="model", reward=everything))
    number = next(n for n, problem in enumerate(problems) if problem.length == 2)
    env.reset(options={"puzzle": number})
    action = int(np.flatnonzero(env.action_masks())[0])
    _, reward, terminated, _, info = env.step(np.int64(action))
    assert terminated and reward > 0.5 and bool(info["success"]) and not bool(info["grounded"])


def test_the_mask_tells_which_actions_change_the_first_grid(
    transitions: TransitionCache, problems: list[Problem]
) -> None:
    episodes = BatchedEpisodes(transitions, problems, GROUNDED, len(problems))
    episodes.reset(range(len(problems)), np.arange(len(problems)))
    for row, problem in enumerate(problems[:30]):
        for action, on in enumerate(episodes.mask[row, :-1]):
            if action != transitions.actions.recolor:
                made = transitions.actions.outcome(action, problem.inputs[0])
                assert bool(on) == (made is not None and not np.array_equal(made, problem.inputs[0]))
        assert episodes.mask[row, -1] == 1
    recolored = [row for row, problem in enumerate(problems) if problem.trace == (transitions.actions.recolor,)]
    assert recolored and all(episodes.mask[row, transitions.actions.recolor] for row in recolored)


def test_no_grid_is_visited_twice_and_a_refused_action_is_masked(
    transitions: TransitionCache, problems: list[Problem]
) -> None:
    flip, turn = (transitions.actions.indices[name] for name in ("flip_horizontal", "rotate_90"))
    narrow = np.array([[1, 2, 3]], dtype=np.uint8)
    wide = np.resize(np.arange(1, 10, dtype=np.uint8), (16, 16))  # cannot be laid twice across
    problem = Problem("made", (narrow, wide), (narrow[:, ::-1].copy(), narrow))
    episodes = BatchedEpisodes(transitions, [problem], dataclasses.replace(GROUNDED, demonstrations=2), 1)
    episodes.reset([0], np.array([0]))
    assert episodes.mask[0, flip] == 1
    episodes.step(np.array([flip]))
    assert episodes.mask[0, flip] == 0 and episodes.mask[0, turn] == 1
    tile = transitions.actions.indices["tile_across"]
    assert episodes.mask[0, tile] == 1
    found = episodes.step(np.array([tile]))
    assert found.refused[0] and episodes.mask[0, tile] == 0
    episodes.step(np.array([turn]))
    assert episodes.mask[0, tile] == 1 and episodes.actions_taken[0] == [flip, turn]


@pytest.mark.parametrize("dynamics", ["model", "grounded"])
def test_an_undone_episode_is_as_before_but_for_the_step(
    transitions: TransitionCache, problems: list[Problem], dynamics: Any
) -> None:
    config = EnvConfig(dynamics=dynamics, undo=True, reward=RewardConfig(success_distance=0.0))
    long = [problem for problem in problems if problem.length >= 2]
    episodes = BatchedEpisodes(transitions, long, config, len(long))
    episodes.reset(range(len(long)), np.arange(len(long)))
    undo = episodes.undo
    assert undo == len(transitions.actions) == episodes.stop - 1 and not episodes.mask[:, undo].any()
    begun = episodes.grids.copy()
    nothing = episodes.step(np.full(episodes.count, undo))  # impossible, but an environment may be asked to
    assert nothing.refused.all() and not nothing.success.any() and (nothing.reward < 0).all()
    assert np.array_equal(episodes.grids, begun) and (episodes.steps == 1).all()
    episodes.reset(range(episodes.count), episodes.problem_index.copy())
    generator, ended = np.random.default_rng(0), np.zeros(len(long), dtype=bool)
    history, tried = [], []
    for _ in range(3):
        history.append((episodes.grids.copy(), episodes.latents.copy(), episodes.mask.copy()))
        tried.append(np.array([generator.choice(changing(episodes, row)) for row in range(len(long))]))
        ended |= episodes.step(tried[-1]).terminated
    rows = np.flatnonzero(~ended)
    assert len(rows) > 10
    for back, (grids, latents, mask) in enumerate(history[::-1]):
        found = episodes.step(np.full(len(long), undo))
        assert np.array_equal(episodes.grids[rows], grids[rows])
        assert np.array_equal(episodes.latents[rows], latents[rows])
        assert not (episodes.mask[rows] & (1 - mask[rows])).any()
        assert not episodes.mask[rows, tried[2 - back][rows]].any()  # its grid has been visited
        np.testing.assert_allclose(found.reward[rows], -config.reward.step_penalty)
        assert (found.duration == 1).all() and (episodes.steps == 4 + back).all()
    assert not episodes.mask[rows, undo].any() and not any(episodes.actions_taken[row] for row in rows)


def changing(episodes: BatchedEpisodes, row: int) -> list[int]:
    """Actions that are possible on all grids of an episode, not only the first."""
    grids = episodes.grids[row].tolist()
    possible = np.flatnonzero(episodes.mask[row, : len(episodes.cache.actions)]).tolist()
    return [
        action
        for action in possible
        if action != episodes.cache.actions.recolor
        and REFUSED not in [episodes.cache.outcome(g, action) for g in grids]
    ]


def test_what_was_refused_stays_so_after_undoing(transitions: TransitionCache) -> None:
    flip, tile = (transitions.actions.indices[name] for name in ("flip_horizontal", "tile_across"))
    narrow = np.array([[1, 2, 3]], dtype=np.uint8)
    wide = np.resize(np.arange(1, 10, dtype=np.uint8), (16, 16))  # cannot be laid twice across
    problem = Problem("made", (narrow, wide), (narrow, narrow))
    config = dataclasses.replace(GROUNDED, demonstrations=2, undo=True)
    episodes = BatchedEpisodes(transitions, [problem], config, 1)
    episodes.reset([0], np.array([0]))
    assert episodes.step(np.array([tile])).refused[0]
    episodes.step(np.array([flip]))
    assert episodes.mask[0, tile] == 1
    episodes.step(np.array([episodes.undo]))
    assert episodes.mask[0, tile] == 0 and episodes.mask[0, flip] == 0


def test_an_option_is_its_actions_one_after_another(transitions: TransitionCache, problems: list[Problem]) -> None:
    numbers = transitions.actions.indices
    option = (numbers["flip_horizontal"], numbers["flip_vertical"])
    config = dataclasses.replace(GROUNDED, gamma=0.9)
    whole = BatchedEpisodes(transitions, problems, config, len(problems), [option])
    parts = BatchedEpisodes(transitions, problems, config, len(problems))
    for episodes in (whole, parts):
        episodes.reset(range(len(problems)), np.arange(len(problems)))
    chosen = np.full(len(problems), len(transitions.actions))
    assert whole.stop == len(transitions.actions) + 1
    found = whole.step(chosen)
    first = parts.step(np.full(len(problems), option[0]))
    second = parts.step(np.where(first.success, parts.stop, option[1]))
    goes_on = ~first.success & ~first.refused
    assert np.array_equal(whole.grids, parts.grids)
    np.testing.assert_allclose(found.reward, first.reward + goes_on * 0.9 * second.reward, rtol=1e-5)
    assert np.array_equal(found.duration, 1 + goes_on)
    assert np.array_equal(found.success, first.success | (second.success & goes_on))


def test_shaping_pays_the_fall_of_the_distance(transitions: TransitionCache, problems: list[Problem]) -> None:
    plain, shaped = RewardConfig(), RewardConfig(shaping_weight=2.0)
    totals = []
    for reward in (plain, shaped):
        config = EnvConfig(dynamics="grounded", max_steps=3, gamma=1.0, reward=reward)
        episodes = BatchedEpisodes(transitions, problems, config, 1)
        episodes.reset([0], np.array([next(n for n, p in enumerate(problems) if len(p.trace) == 2)]))
        start = float(episodes.potential()[0])
        total = sum(
            float(episodes.step(np.array([a])).reward[0]) for a in problems[int(episodes.problem_index[0])].trace
        )
        totals.append(total)
    # Telescoped: with the potential 0 at the end, what is left is minus that of the beginning.
    assert totals[1] - totals[0] == pytest.approx(-2.0 * start, rel=1e-4)
