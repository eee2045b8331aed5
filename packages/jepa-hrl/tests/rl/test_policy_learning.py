"""What learns in the latent environment: mathematics, and that learning works; options, and the guided search."""

import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from arc_core.progress import Progress
from arc_core.runs import RunFolder
from arc_core.task import task_from_json
from jepa_hrl.dsl.program import evaluate
from jepa_hrl.dsl.types import Array
from jepa_hrl.rl.config import CloningConfig, EnvConfig, PolicyConfig, ReasonerConfig, TrainerConfig
from jepa_hrl.rl.environment.datasets import ProblemSets
from jepa_hrl.rl.environment.episodes import BatchedEpisodes
from jepa_hrl.rl.environment.problems import Problem, steps_to_goal
from jepa_hrl.rl.environment.transition_cache import TransitionCache
from jepa_hrl.rl.imitation.demonstrations import Demonstrations, collect_demonstrations, resample_pairs
from jepa_hrl.rl.imitation.expert import ProgramExpert, execute_trace, longest_shortcut
from jepa_hrl.rl.imitation.trainer import CloningTrainer
from jepa_hrl.rl.options.cli import discover_options as discover
from jepa_hrl.rl.options.comparison import compare_options
from jepa_hrl.rl.options.discovery import mine_sequences, read_options
from jepa_hrl.rl.policy.actor_critic import Batch, OneStepLookahead, entropy
from jepa_hrl.rl.policy.agent import Agent
from jepa_hrl.rl.policy.evaluation import EpisodeOutcomes, evaluate_greedy, evaluate_policy, make_batch
from jepa_hrl.rl.policy.guided_search import GuidedLimits, GuidedSearch
from jepa_hrl.rl.policy.rollouts import Header, roll_out
from jepa_hrl.rl.ppo.losses import compute_gae, policy_losses
from jepa_hrl.rl.ppo.trainer import Trainer
from jepa_hrl.world_model.actions import ActionSet
from jepa_hrl.world_model.checkpoint import LoadedProgramJepa

GROUNDED = EnvConfig(dynamics="grounded", max_steps=5)


def test_advantages_equal_their_definition() -> None:
    """Against the sum of discounted td_errors written out, with an end, a cut and choices of several steps."""
    generator = torch.Generator().manual_seed(0)
    steps, count, gamma, decay = 7, 3, 0.9, 0.8
    rewards, values, next_values = (torch.randn(steps, count, generator=generator).double() for _ in range(3))
    terminated = torch.rand(steps, count, generator=generator) < 0.2
    ended = terminated | (torch.rand(steps, count, generator=generator) < 0.2)
    durations = torch.randint(1, 4, (steps, count), generator=generator)
    found, returns = compute_gae(rewards, values, next_values, terminated, ended, gamma, decay, durations)
    for n in range(count):
        for t in range(steps):
            total, weight = 0.0, 1.0
            for s in range(t, steps):
                after = 0.0 if terminated[s, n] else gamma ** int(durations[s, n]) * float(next_values[s, n])
                total += weight * (float(rewards[s, n]) + after - float(values[s, n]))
                weight *= gamma ** int(durations[s, n]) * decay
                if ended[s, n]:
                    break
            assert float(found[t, n]) == pytest.approx(total)
            assert float(returns[t, n]) == pytest.approx(total + float(values[t, n]))


def test_advantages_of_a_constant_reward_have_their_closed_form() -> None:
    """Reward 1, value 0, lambda 1, one episode that ends: the advantage at t is the geometric sum of what is left."""
    steps, gamma = 6, 0.9
    ended = torch.zeros(steps, 1, dtype=torch.bool)
    ended[-1] = True
    nothing = torch.zeros(steps, 1)
    found, _ = compute_gae(torch.ones(steps, 1), nothing, nothing, ended, ended, gamma, 1.0)
    wanted = [(1 - gamma ** (steps - t)) / (1 - gamma) for t in range(steps)]
    assert found[:, 0].tolist() == pytest.approx(wanted, rel=1e-5)


def test_a_cut_episode_counts_what_would_have_followed() -> None:
    rewards, values = torch.zeros(1, 2), torch.zeros(1, 2)
    following = torch.full((1, 2), 5.0)
    terminated = torch.tensor([[True, False]])
    found, _ = compute_gae(rewards, values, following, terminated, torch.ones(1, 2).bool(), 0.9, 0.95)
    assert found.tolist() == [[0.0, pytest.approx(4.5)]]


def test_policy_losses_are_clipped_as_written() -> None:
    config = TrainerConfig(clip=0.2, clip_values=True)
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    value, valued, wanted = torch.full((5,), 1.0), torch.full((5,), 0.5), torch.full((5,), 2.0)
    found = policy_losses(config, ratio.log(), torch.zeros(5), advantage, value, valued, wanted)
    assert found.policy.tolist() == pytest.approx([-1.2, 1.5, -0.5, 0.8, -2.2])
    assert found.clipped.tolist() == [1, 1, 1, 1, 0]
    assert found.value.tolist() == pytest.approx([0.5 * 1.3**2] * 5)  # the clipped value, 0.7, is the worse one
    assert found.kl.tolist() == pytest.approx((ratio - 1 - ratio.log()).tolist())
    plain = policy_losses(TrainerConfig(), ratio.log(), torch.zeros(5), advantage, value, valued, wanted)
    assert plain.value.tolist() == pytest.approx([0.5] * 5)
    whole = policy_losses(
        TrainerConfig(algorithm="reinforce"), ratio.log(), torch.zeros(5), advantage, value, valued, wanted
    )
    assert whole.policy.tolist() == pytest.approx((-ratio.log() * advantage).tolist())


def test_entropy_leaves_out_what_is_not_possible() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf], [3.0, -torch.inf, -torch.inf]], requires_grad=True)
    found = entropy(logits.log_softmax(dim=1))
    assert found.tolist() == pytest.approx([np.log(2), 0.0], abs=1e-6)
    torch.autograd.backward(found.sum())
    assert logits.grad is not None and torch.isfinite(logits.grad[:, 0]).all()


def test_foresight_is_the_distance_of_what_the_model_foresees(
    jepa: LoadedProgramJepa, transitions: TransitionCache, problems: list[Problem]
) -> None:
    episodes = BatchedEpisodes(transitions, problems, GROUNDED, 5)
    episodes.reset(range(5), np.arange(5))
    lookahead = OneStepLookahead(jepa.model, transitions.action_vectors, jepa.actions.recolor)
    batch = make_batch(episodes.observation(), lookahead, jepa.device)
    for row in range(5):
        for action in range(len(jepa.actions)):
            if action == jepa.actions.recolor or not batch.mask[row, action]:
                continue
            after = transitions.predict_latents(episodes.latents[row : row + 1], np.array([action]), [None])[0]
            goal = episodes.goal_latents[row]
            cosines = (after * goal).sum(1) / np.linalg.norm(after, axis=1) / np.linalg.norm(goal, axis=1)
            wanted = -np.log((1 - cosines).mean() + 0.02)
            assert float(batch.lookahead_scores[row, action]) == pytest.approx(wanted, abs=1e-4)


def make_trainer(
    jepa: LoadedProgramJepa, problems: list[Problem], folder: Path, options: Any = (), **settings: Any
) -> Trainer:
    trainer = TrainerConfig(**({"episodes_per_iter": 32, "steps_per_iter": 8, "iterations": 30, "lr": 3e-3} | settings))
    config = ReasonerConfig(env=GROUNDED, policy=PolicyConfig(32), trainer=trainer)
    run = RunFolder(folder)
    run.checkpoints.mkdir(parents=True)
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    agent = Agent(jepa, config.policy, trainer.seed, options)
    return Trainer(config, agent, ProblemSets(problems, problems[:40], ("manifest:none",), "none"), run, fabric)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "reinforce"])
def test_a_trivial_environment_is_solved(
    jepa: LoadedProgramJepa, problems: list[Problem], tmp_path: Path, algorithm: Any
) -> None:
    """Puzzles of one action each: the latents of input and goal tell which."""
    easy = [problem for problem in problems if len(problem.trace) == 1]
    iterations = 30 if algorithm == "ppo" else 120
    trainer = make_trainer(jepa, easy, tmp_path / "run", algorithm=algorithm, iterations=iterations)
    before = evaluate_policy(trainer.agent, easy, GROUNDED).success
    for _ in range(iterations):
        metrics = trainer.iteration()
    after = evaluate_policy(trainer.agent, easy, GROUNDED)
    assert before < 0.5 < 0.9 < after.success, (before, after)
    assert metrics["train/success"] > 0.8 and after.length_ratio < 1.5


def test_a_loaded_trainer_goes_on_as_if_nothing_had_happened(
    jepa: LoadedProgramJepa, problems: list[Problem], tmp_path: Path
) -> None:
    whole = make_trainer(jepa, problems, tmp_path / "whole", episodes_per_iter=8, epochs=2, minibatches=2)
    for _ in range(2):
        whole.iteration()
    state = whole.state()
    saved = dataclasses.replace(state, model={name: value.clone() for name, value in state.model.items()})
    torch.save(state.optimizer, tmp_path / "optimizer.pt")
    wanted = whole.iteration()
    parted = make_trainer(jepa, problems, tmp_path / "parted", episodes_per_iter=8, epochs=2, minibatches=2)
    parted.load(dataclasses.replace(saved, optimizer=torch.load(tmp_path / "optimizer.pt", weights_only=True)))
    assert parted.iteration() == wanted
    for name, value in whole.agent.policy.state_dict().items():
        assert torch.equal(value, parted.agent.policy.state_dict()[name])


def imitate(agent: Agent, known: Demonstrations, steps: int) -> torch.Tensor:
    """Clones all of what is known at once; the log-probabilities before the last step."""
    optimizer = torch.optim.Adam(agent.policy.parameters(), 3e-3)
    for _ in range(steps):
        log_probabilities, _ = agent.policy(known.batch)
        loss = -log_probabilities.gather(1, known.actions[:, None]).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return log_probabilities


def test_a_cloned_policy_does_what_it_was_shown(
    jepa: LoadedProgramJepa, problems: list[Problem], tmp_path: Path
) -> None:
    agent = Agent(jepa, PolicyConfig(64), 0)
    with Progress(_quiet(), len(problems), "") as progress:
        known = collect_demonstrations(problems, agent.lookahead, agent.cache, GROUNDED, 1, progress)
    steps = 0
    for problem in problems:
        inputs, goals = agent.cache.intern_problem(problem)
        way, place = execute_trace(agent.cache, inputs, problem.trace, goals) if problem.trace else [], 0
        while place < len(problem.trace):
            place, steps = longest_shortcut(problem.trace, way or [], place, agent.cache)[1], steps + 1
    assert len(known) == steps
    assert known.batch.mask.gather(1, known.actions[:, None]).all()
    imitate(agent, known, 150)
    traced = [problem for problem in problems if problem.trace]
    assert evaluate_policy(agent, traced, GROUNDED).success > 0.8


def test_detours_of_a_program_are_not_imitated(jepa: LoadedProgramJepa, transitions: TransitionCache) -> None:
    """Turns and mirrors, of which several often come to a single one; against trying every action at every place."""
    rng, actions, shorter = np.random.default_rng(0), jepa.actions, 0
    turns = [actions.indices[name] for name in ("flip_horizontal", "flip_vertical", "transpose", "rotate_90")]

    def apply(action: int, grids: tuple[Array, ...]) -> tuple[Array, ...]:
        made = [actions.outcome(action, grid) for grid in grids]
        return tuple(grid for grid in made if grid is not None)

    def same(ones: tuple[Array, ...], others: tuple[Array, ...]) -> bool:
        return len(ones) == len(others) and all(map(np.array_equal, ones, others))

    for _ in range(40):
        way = [tuple(rng.integers(10, size=(3, 4)).astype(np.uint8) for _ in range(3))]
        trace = tuple(int(n) for n in rng.choice(turns, 3))
        for action in trace:
            way.append(apply(action, way[-1]))
        problem = Problem("made", way[0], way[3], 3, trace)
        if steps_to_goal(trace, problem, actions) != 3:
            continue  # it comes back to a grid that it has been in
        inputs, goals = transitions.intern_problem(problem)
        numbers, place, taken = execute_trace(transitions, inputs, trace, goals), 0, 0
        assert numbers is not None and all(
            same(tuple(transitions.grids[n] for n in row), grids) for row, grids in zip(numbers, way, strict=True)
        )
        while place < 3:
            action, after = longest_shortcut(trace, numbers, place, transitions)
            assert same(apply(action, way[place]), way[after])
            others = [apply(n, way[place]) for n in range(len(actions)) if n != actions.recolor]
            assert after == max(later for later in range(place + 1, 4) if any(same(o, way[later]) for o in others))
            place, taken = after, taken + 1
        shorter += taken < 3
    assert shorter > 10


def test_a_tutor_leads_to_the_goals_from_wherever_a_pupil_went(
    transitions: TransitionCache, problems: list[Problem]
) -> None:
    traced = [problem for problem in problems if problem.trace]
    config = EnvConfig(dynamics="grounded", undo=True, max_steps=40)
    episodes = BatchedEpisodes(transitions, traced, config, len(traced))
    episodes.reset(range(len(traced)), np.arange(len(traced)))
    experts = [ProgramExpert(problem, transitions) for problem in traced]
    generator, running, undone = np.random.default_rng(0), np.ones(len(traced), dtype=bool), 0
    barred = 0
    for step in range(40):
        chosen = np.full(len(traced), episodes.stop)
        for row in np.flatnonzero(running):
            advice = experts[row].actions()
            chosen[row] = advice[0] if advice else episodes.undo
            if not episodes.mask[row, chosen[row]]:  # strayed onto the way before, and back
                running[row], barred = False, barred + 1
                continue
            others = np.flatnonzero(episodes.mask[row, :-2])
            if step < 5 and len(others) and generator.random() < 0.5:
                chosen[row] = generator.choice(others)
        found = episodes.step(chosen)
        for row in np.flatnonzero(running & ~found.terminated & ~found.refused):
            if chosen[row] == episodes.undo:
                experts[row].observe_undo()
                undone += 1
            else:
                experts[row].observe(int(chosen[row]), episodes.grids[row].tolist())
        running &= ~(found.terminated & found.grounded)
    assert not running.any() and undone > len(traced) / 4 and barred < len(traced) / 20


def test_a_tutor_goes_on_where_an_action_was_only_taken_earlier(transitions: TransitionCache) -> None:
    flip, keep, tile = (
        transitions.actions.indices[name] for name in ("flip_horizontal", "keep_color_3", "tile_across")
    )
    grid = np.array([[1, 0, 2], [0, 0, 3]], dtype=np.uint8)
    start = transitions.intern(grid)
    goal = transitions.outcome(transitions.outcome(start, flip), keep)
    expert = ProgramExpert(Problem("made", (grid,), (transitions.grids[goal],), 2, (flip, keep)), transitions)
    assert (expert.actions(), expert.actions(2)) == ((flip,), (flip, keep))
    expert.observe(keep, [transitions.outcome(start, keep)])
    assert expert.actions(2) == (flip,)  # the two may change places
    expert.observe_undo()
    expert.observe(tile, [transitions.outcome(start, tile)])
    assert expert.actions(2) == ()
    expert.observe_undo()
    assert expert.actions() == (flip,)


def test_a_policy_shown_strays_learns_to_take_back(jepa: LoadedProgramJepa, problems: list[Problem]) -> None:
    config = dataclasses.replace(GROUNDED, undo=True, max_steps=8)
    agent = Agent(jepa, PolicyConfig(64), 0, undo=True)
    with Progress(_quiet(), len(problems), "") as progress:
        known = collect_demonstrations(problems, agent.lookahead, agent.cache, config, 1, progress, 0.25, 5)
        again = collect_demonstrations(problems, agent.lookahead, agent.cache, config, 1, progress, 0.25, 5)
    assert torch.equal(known.actions, again.actions)
    undo = len(jepa.actions)
    back = known.actions == undo  # a third at most on average: a quarter of all steps stray, also off the way
    assert 0.05 < back.float().mean() < 0.4 and known.batch.mask.gather(1, known.actions[:, None]).all()
    log_probabilities = imitate(agent, known, 200)
    assert (log_probabilities.argmax(dim=1) == known.actions)[back].float().mean() > 0.7
    traced = [problem for problem in problems if problem.trace]
    assert evaluate_policy(agent, traced, config).success > 0.8


def test_redrawn_demonstrations_stay_pairs_of_their_task() -> None:
    rows, code = 400, torch.arange(3.0)[None, :, None].expand(400, 3, 2) + 10 * torch.arange(400.0)[:, None, None]
    nothing = torch.zeros(rows, 1)
    batch = Batch(code, code + 0.5, nothing, nothing > 0, nothing)
    found = resample_pairs(batch, 0.5, np.random.default_rng(0))
    assert torch.equal(found.goal, found.current + 0.5)
    assert torch.equal(found.current // 10, code // 10)
    changed = (found.current != code).any(dim=(1, 2)).float().mean().item()
    assert changed == pytest.approx(0.5 * (1 - 1 / 27), abs=0.08)  # of 27 draws one is as it was
    assert torch.equal(resample_pairs(batch, 0.0, np.random.default_rng(0)).current, code)


def cloning_trainer(
    jepa: LoadedProgramJepa, problems: list[Problem], folder: Path, config: ReasonerConfig
) -> CloningTrainer:
    agent = Agent(jepa, config.policy, 0)
    with Progress(_quiet(), len(problems), "") as progress:
        known = collect_demonstrations(problems, agent.lookahead, agent.cache, GROUNDED, 1, progress)
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    return CloningTrainer(config, agent, ProblemSets(problems, problems, (), ""), known, RunFolder(folder), fabric)


def test_dropout_is_of_cloning_alone_and_the_same_each_time(
    jepa: LoadedProgramJepa, problems: list[Problem], tmp_path: Path
) -> None:
    weights, config = [], ReasonerConfig(GROUNDED, policy=PolicyConfig(16, dropout=0.5), cloning=CloningConfig(2, 8))
    for name in ("one", "other"):
        trainer = cloning_trainer(jepa, problems, tmp_path / name, config)
        torch.rand(len(name))  # whatever else has drawn
        trainer.training_step()
        weights.append(trainer.agent.policy.state_dict()["trunk.0.weight"].clone())
        policy, batch = trainer.agent.policy, trainer.demonstrations.batch
        assert torch.equal(policy(batch)[0], policy(batch)[0])
        policy.train()
        assert not torch.equal(policy(batch)[0], policy(batch)[0])
    assert torch.equal(*weights)


def test_averaged_weights_of_cloning_are_resumed_and_taken_over(
    jepa: LoadedProgramJepa, problems: list[Problem], tmp_path: Path
) -> None:
    config = ReasonerConfig(GROUNDED, policy=PolicyConfig(16), cloning=CloningConfig(2, 8, ema_decay=0.5))
    trainer = cloning_trainer(jepa, problems, tmp_path / "one", config)
    weight = trainer.agent.policy.actor.weight
    wanted = weight.detach().clone()
    for step in range(3):
        trainer.training_step()
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * weight.detach()
    assert not torch.allclose(wanted, weight)
    taker = Agent(jepa, config.policy, 1)
    taker.load_policy(trainer.state())
    torch.testing.assert_close(taker.policy.actor.weight, wanted)
    resumed = cloning_trainer(jepa, problems, tmp_path / "two", config)
    resumed.load(copy.deepcopy(trainer.state()))
    for one in (trainer, resumed):
        one.training_step()
    for one_average, other in zip(trainer.state().ema.values(), resumed.state().ema.values(), strict=True):
        assert torch.equal(one_average, other)


def _quiet() -> Any:
    from rich.console import Console

    return Console(quiet=True)


def test_a_policy_widened_by_options_decides_as_before_until_it_learns(
    jepa: LoadedProgramJepa, problems: list[Problem], tmp_path: Path
) -> None:
    narrow = make_trainer(jepa, problems, tmp_path / "narrow")
    wide = make_trainer(jepa, problems, tmp_path / "wide", options=((0, 1), (1, 2)))
    wide.init_from(narrow.state())
    episodes = [BatchedEpisodes(t.agent.cache, problems, GROUNDED, 6, t.agent.options) for t in (narrow, wide)]
    scores = []
    for trainer, found in zip((narrow, wide), episodes, strict=True):
        found.reset(range(6), np.arange(6))
        batch = make_batch(found.observation(), trainer.agent.lookahead, jepa.device)
        logits = trainer.agent.policy(batch)[0]
        scores.append(torch.cat([logits[:, : len(jepa.actions)], logits[:, -1:]], dim=1).log_softmax(dim=1))
    torch.testing.assert_close(*scores)


def test_sequences_are_mined_by_support_and_gain() -> None:
    traces = [list("abcx"), list("yabc"), list("abc"), list("zabc"), list("xy"), list("yx"), ["q"]]
    found = mine_sequences(traces, 7, 3, 9, 3)
    # A choice is one of 7 + 9: 4 bits. Each of 4 uses saves all choices but one, and saying what it is takes all.
    assert found == [(("a", "b"), 4, 4 * 4.0 - 8), (("a", "b", "c"), 4, 4 * 8.0 - 12)]
    assert mine_sequences(traces, 7, 5, 9, 3) == []
    assert mine_sequences([["a", "b"]] * 2, 7, 1, 9, 3) == []  # saying what it is would cost what its uses save
    assert mine_sequences(traces[::-1], 7, 3, 9, 3) == found


def test_rollouts_are_read_back_and_options_found(
    jepa: LoadedProgramJepa, problems: list[Problem], actions: ActionSet, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    agent = Agent(jepa, PolicyConfig(16), 0)
    first = roll_out(agent, problems[:10], GROUNDED, 0, 3, False)
    again = roll_out(agent, problems[4:10], GROUNDED, 4, 3, False)
    assert [trace.actions for trace in again] == [trace.actions for trace in first[4:]]
    assert first != roll_out(agent, problems[:10], GROUNDED, 0, 4, False)
    for trace, problem in zip(first, problems, strict=False):
        numbers = [actions.indices[name] for name in trace.actions]
        assert trace.grounded == (steps_to_goal(numbers, problem, actions) == len(numbers) > 0)
    header = Header("none", "none", "grounded", 0, False, jepa.config.actions)
    pattern = dataclasses.replace(
        first[0], grounded=True, actions=("flip_horizontal", "transpose", "recolor"), ended="success"
    )
    lines = [header, *[pattern] * 5, dataclasses.replace(pattern, grounded=False, actions=("rotate_90", "transpose"))]
    path, output = tmp_path / "traces.jsonl", tmp_path / "options.json"
    path.write_text("".join(json.dumps(dataclasses.asdict(line)) + "\n" for line in lines))
    assert discover(["--traces", str(path), "--output", str(output)]) == 0
    found = json.loads(output.read_text())["options"]
    assert found and found[0]["support"] == 5 and found[0]["success_rate"] == 1
    assert "transpose(flip_horizontal(input))" in found[0]["expansion"] or found[0]["actions"][-1] == "recolor"
    assert read_options(output, actions)[0] == tuple(actions.indices[name] for name in found[0]["actions"])


def test_a_tutors_options_are_shown_wherever_one_begins_the_rest(
    jepa: LoadedProgramJepa, problems: list[Problem], transitions: TransitionCache
) -> None:
    traced = [problem for problem in problems if len(problem.trace) > 1]
    ways = [ProgramExpert(problem, transitions).actions(4) for problem in traced]
    options = (ways[0][:1] * 3, *dict.fromkeys(way[:2] for way in ways if len(way) > 1))
    agent = Agent(jepa, PolicyConfig(32), 0, options)
    with Progress(_quiet(), len(traced), "") as progress:
        known = collect_demonstrations(traced, agent.lookahead, agent.cache, GROUNDED, 1, progress, options=options)
        plain = collect_demonstrations(traced, agent.lookahead, agent.cache, GROUNDED, 1, progress)
    first = len(jepa.actions)
    assert len(known) == len(plain) and known.batch.mask.gather(1, known.actions[:, None]).all()
    for one, other in zip(known.actions.tolist(), plain.actions.tolist(), strict=True):
        assert (options[one - first][0] if first <= one < first + len(options) else one) == other
    assert (known.actions[: len(traced)] > first).sum() == sum(len(way) > 1 for way in ways)  # the first is in none
    imitate(agent, known, 200)
    tried = evaluate_greedy(agent, traced, GROUNDED)
    assert (tried.decisions < tried.actions)[tried.grounded].mean() > 0.5


def tried(decisions: Sequence[int], actions: int, solved: Sequence[bool]) -> EpisodeOutcomes:
    """Of tasks of three actions and, the last, of one."""
    count = len(decisions)
    wanted = np.array([3] * (count - 1) + [1])
    right = np.array(solved)
    return EpisodeOutcomes(right, right, np.full(count, actions), np.array(decisions), wanted, np.zeros(count))


def test_options_are_worth_having_if_chosen_ones_save_decisions_beyond_chance() -> None:
    everything = [True] * 9
    plain = tried([3] * 9, 3, everything)
    one_less = tried([2, 3, 2, 2, 2, 3, 2, 2, 9], 3, everything)
    found = compare_options([plain, plain], [one_less, plain])
    assert (found.both, found.decisions_saved, found.used) == (8, 6 / 16, 6 / 16) and found.is_beneficial
    assert (
        found.decisions_saved_95 is not None
        and 0 < found.decisions_saved_95[0] < 6 / 16 < found.decisions_saved_95[1] <= 0.5
    )
    assert found.sentence.startswith("the options are worth having")
    by_chance = tried([2, 4, 3, 3, 2, 4, 2, 3, 1], 3, everything)
    fewer_solved = tried([2] * 9, 3, [False, *everything[1:]])
    never_chosen = tried([2] * 9, 2, everything)
    for using in (plain, by_chance, fewer_solved, never_chosen):
        assert compare_options([plain], [using]).sentence.startswith("the options are not worth having")
    nothing = tried([3] * 9, 3, [False] * 9)
    assert compare_options([plain], [nothing]).decisions_saved_95 is None


def test_guided_search_answers_with_programs_that_fit(jepa: LoadedProgramJepa, rows: list[dict[str, Any]]) -> None:
    agent, solved = Agent(jepa, PolicyConfig(16), 0), 0
    for row in rows[:12]:
        task = task_from_json({"train": row["train"], "test": row["test"]}, row["task_id"])
        found = GuidedSearch(agent, task.without_answers(), 3, 8, GuidedLimits(seconds=20, programs=3000)).run()
        assert found.tested <= 3000 + 8 * len(jepa.actions)
        for solution in found.solutions:
            for pair in task.train:
                assert np.array_equal(evaluate(solution.program, pair.input), pair.output)  # type: ignore[arg-type]
        assert len({answer.tobytes() for s in found.solutions for answer in s.answers}) == len(found.solutions)
        right = [np.array_equal(s.answers[0], task.test[0].output) for s in found.solutions]  # type: ignore[arg-type]
        solved += any(right)
    assert solved >= 11
