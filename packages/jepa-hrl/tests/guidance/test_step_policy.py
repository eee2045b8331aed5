"""The step policy: its features, its training, and the search that it guides."""

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from arc_core.augment import dihedral
from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.progress import Progress
from arc_core.task import Task
from jepa_hrl.dsl.steps import STEPS
from jepa_hrl.dsl.types import Array, grid
from jepa_hrl.guidance.primitive_prior import METHOD
from jepa_hrl.guidance.step_features import TargetFeatures
from jepa_hrl.guidance.step_policy import StepNetwork, StepPolicy, StepPolicyLoader, load_step_network
from jepa_hrl.guidance.train_steps import StepExamples, draw_examples, evaluate_step_network, train_step_network
from jepa_hrl.search import engine
from jepa_hrl.search.engine import Limits, Search
from jepa_hrl.search.moves import STEP_NAMES
from jepa_hrl.search.parallel import search_tasks
from jepa_hrl.synthesis.config import GridConfig
from jepa_hrl.synthesis.generator import PhasePlan, make_practice_task

FEW = ("anti_transpose", "grow", "hollow", "left_half", "roll_up", "top_half")


def make_plan(names: Sequence[str], lengths: tuple[int, ...], side: int = 8) -> PhasePlan:
    """Random programs of some steps."""
    shares = (1.0,) * len(lengths)
    return PhasePlan("few", tuple(STEPS[name] for name in names), lengths, shares, GridConfig(6, side), (3, 3), False)


def random_grid(rng: np.random.Generator, height: int, width: int) -> Array:
    cells = rng.integers(1, 5, (height, width)) * (rng.random((height, width)) < 0.6)
    return np.asarray(cells, dtype=np.uint8)


def test_features_depend_on_no_other_value_of_the_batch() -> None:
    rng = np.random.default_rng(1)
    target = TargetFeatures([random_grid(rng, 5, 7), random_grid(rng, 9, 4)])
    values = [[random_grid(rng, *rng.integers(1, 12, 2)) for _ in range(2)] for _ in range(5)]
    together = target.features(values)
    alone = np.concatenate([target.features([value]) for value in values])
    assert together.dtype == np.float32 and np.isfinite(together).all()
    assert np.array_equal(together, alone)


def test_features_depend_on_demonstrations_as_a_set() -> None:
    """Neither their order nor a repetition matters, as the mean and the minimum over them are what is kept."""
    rng = np.random.default_rng(2)
    outputs, value = [random_grid(rng, 5, 7), random_grid(rng, 9, 4)], [random_grid(rng, 6, 6), random_grid(rng, 3, 8)]
    features = TargetFeatures(outputs).features([value])
    assert np.array_equal(TargetFeatures(outputs[::-1]).features([value[::-1]]), features)
    one = TargetFeatures(outputs[:1]).features([value[:1]])
    assert np.array_equal(TargetFeatures(outputs[:1] * 2).features([value[:1] * 2]), one)


def test_features_tell_a_value_from_its_images_under_d4() -> None:
    rng = np.random.default_rng(3)
    output = random_grid(rng, 6, 6)
    rows = TargetFeatures([output]).features([[dihedral(output, element)] for element in range(8)])
    assert len(np.unique(rows, axis=0)) == 8


@pytest.fixture(scope="module")
def trained() -> tuple[StepNetwork, StepExamples]:
    """A network that learnt six steps from programs of one to four of them."""
    console = Console(quiet=True)
    with Progress(console, 400, "drawing") as progress:
        examples = draw_examples(make_plan(FEW, (1, 2, 3, 4)), 400, 5, 2, progress)
    with Progress(console, 120, "training") as progress:
        return train_step_network(examples, 120, 256, 0, progress), examples


@pytest.mark.slow
def test_examples_are_the_same_whatever_the_number_of_workers(trained: tuple[StepNetwork, StepExamples]) -> None:
    with Progress(Console(quiet=True), 120, "drawing") as progress:
        again = draw_examples(make_plan(FEW, (1, 2, 3, 4)), 120, 5, 1, progress)
    assert torch.equal(again.features, trained[1].features[: len(again)])
    assert torch.equal(again.next_steps, trained[1].next_steps[: len(again)])


def test_examples_say_the_step_that_comes_next() -> None:
    plan = make_plan(FEW, (3,))
    with Progress(Console(quiet=True), 20, "drawing") as progress:
        examples = draw_examples(plan, 20, 7, 1, progress)
    on_path = examples.next_steps[examples.next_steps >= 0].tolist()
    traces = [[STEP_NAMES.index(step.name) for step, _ in make_practice_task(plan, n, 7).trace] for n in range(20)]
    assert on_path == [step for trace in traces for step in trace]
    assert (examples.next_steps < 0).sum() > 20


@pytest.mark.slow
def test_a_trained_policy_predicts_next_steps_and_guides_to_programs_that_length_does_not_reach(
    trained: tuple[StepNetwork, StepExamples],
) -> None:
    network, _ = trained
    plan = make_plan(FEW, (4,), 10)
    with Progress(Console(quiet=True), 40, "drawing") as progress:
        others = draw_examples(plan, 40, 8, 1, progress)
    metrics = evaluate_step_network(network, others)
    assert metrics["in_top_5"] > 0.95 and metrics["bits"] < 2.4  # log2 of six steps is 2.6
    assert metrics["on_path_accuracy"] > 0.6
    plain = guided = 0
    for number in range(12):
        task = make_practice_task(plan, number, 8).task.without_answers()
        outputs = [pair.output for pair in task.train if pair.output is not None]
        limits = Limits(seconds=None, programs=2500)
        plain += bool(short(Search(task, limits).run().solutions))
        guided += bool(short(Search(task, limits, policy=StepPolicy(network, outputs)).run().solutions))
    assert guided > 8 and guided > plain + 2


def short(solutions: Sequence[object]) -> list[object]:
    """Those that are no large tables."""
    return [solution for solution in solutions if solution.cost < 40]  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_policy_guided_search_is_deterministic_and_keeps_its_limits(
    trained: tuple[StepNetwork, StepExamples],
) -> None:
    network, _ = trained
    task = make_practice_task(make_plan(FEW, (4,), 10), 3, 9).task.without_answers()
    policy = StepPolicy(network, [pair.output for pair in task.train if pair.output is not None])
    runs = [Search(task, Limits(seconds=None, programs=1500), policy=policy).run() for _ in range(2)]
    assert runs[0].tested == runs[1].tested
    assert [str(s.program) for s in runs[0].solutions] == [str(s.program) for s in runs[1].solutions]
    assert runs[0].tested + runs[0].refused < 1700  # one value's tables may follow the last program
    small = Search(task, Limits(seconds=None, programs=1500, size=2), policy=policy).run()
    assert all(solution.program.size <= 4 for solution in small.solutions)  # undone last steps may be added


@pytest.mark.slow
def test_a_policy_guided_search_looks_at_the_clock_before_every_move(
    trained: tuple[StepNetwork, StepExamples], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_practice_task(make_plan(FEW, (4,), 10), 3, 9).task.without_answers()
    output = grid("12/34")  # which nothing makes of these inputs
    hard = Task("hard", tuple(replace(pair, output=output) for pair in task.train), task.test)
    policy = StepPolicy(trained[0], [output] * len(task.train))
    ticks = iter(range(10**9))  # a clock that shows a millisecond more whenever it is read
    monkeypatch.setattr(engine, "time", SimpleNamespace(perf_counter=lambda: next(ticks) / 1000))
    outcome = Search(hard, Limits(seconds=1.0), policy=policy).run()
    assert outcome.ended == "seconds" and not short(outcome.solutions)
    assert 1.0 <= outcome.seconds < 1.01
    assert outcome.tested + outcome.refused > 300


def test_step_networks_of_older_checkpoints_load(tmp_path: Path) -> None:
    network = StepNetwork(5, 4)
    renamed = {f"steps.{name.replace('on_path', 'on_way')}": w for name, w in network.state_dict().items()}
    checkpoint = Checkpoint(METHOD, 1, renamed, {}, {}, {}, "0", (), extras={})
    loaded = load_step_network(save_checkpoint(tmp_path, checkpoint, is_best=True, keep_last=1)).state_dict()
    assert "on_path.weight" in loaded
    for name, weight in network.state_dict().items():
        assert torch.equal(loaded[name], weight)


@pytest.mark.slow
def test_a_policy_guides_the_same_search_in_another_process(
    trained: tuple[StepNetwork, StepExamples], tmp_path: Path
) -> None:
    weights = {f"steps.{name}": weight for name, weight in trained[0].state_dict().items()}
    file = save_checkpoint(
        tmp_path, Checkpoint(METHOD, 1, weights, {}, {}, {}, "0", (), extras={}), is_best=True, keep_last=1
    )
    leader = pickle.loads(pickle.dumps(StepPolicyLoader(file)))
    tasks = [make_practice_task(make_plan(FEW, (3,)), number, 4).task for number in range(2)]
    outcomes = dict(search_tasks(tasks, Limits(seconds=None, programs=2000), workers=2, make_policy=leader))
    here = [
        Search(task.without_answers(), Limits(seconds=None, programs=2000), policy=leader(task)).run() for task in tasks
    ]
    for number, outcome in enumerate(here):
        assert outcomes[number].tested == outcome.tested
