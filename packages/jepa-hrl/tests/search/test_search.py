"""The search finds the programs of the language, keeps its limits, and infers tables as a naive loop does."""

import json
import time
from pathlib import Path

import joblib
import numpy as np
import pytest

from arc_core.datasets import load_tasks
from arc_core.solver import Budget
from arc_core.task import Pair, Task, task_to_json
from jepa_hrl.dsl.program import evaluate, explain, parse
from jepa_hrl.dsl.types import Array, Kind, grid
from jepa_hrl.search.color_tables import FieldIndex, TargetCells
from jepa_hrl.search.engine import Limits, Search
from jepa_hrl.search.overlays import OverlayIndex
from jepa_hrl.search.parallel import search_tasks
from jepa_hrl.search.targets import find_targets
from jepa_hrl.solvers import evaluate_arc as evaluate_arc_module
from jepa_hrl.solvers.cli import main as evaluate_arc
from jepa_hrl.solvers.program_search import SearchSolver, search_limits

LIMITS = Limits(seconds=None, programs=25_000)  # whatever the machine's speed


def task_of(program: str, inputs: list[Array], task_id: str = "t") -> Task:
    """A task whose outputs a program makes of inputs that it does not refuse; the last input is the test."""
    values = [(given, evaluate(parse(program), given)) for given in inputs]
    pairs = [Pair(given, value) for given, value in values if isinstance(value, np.ndarray)][:5]
    assert len(pairs) > 3
    return Task(task_id, tuple(pairs[:-1]), tuple(pairs[-1:]))


def draw_grids(seed: int, number: int = 12, height: int = 6, width: int = 6, colors: int = 4) -> list[Array]:
    """Draws random sparse grids of the colours 1 to `colors - 1`."""
    rng = np.random.default_rng(seed)
    shape = (number, height, width)
    return list((rng.integers(1, colors, shape) * (rng.random(shape) < 0.4)).astype(np.uint8))


@pytest.mark.parametrize(
    "program",
    [
        "flip_horizontal(input)",
        "trim(rotate_90(input))",
        "recolor({1: 7, 2: 3}, input)",
        "crop(pick_max(size, components(input)))",
        "mirror_right(fall_down(input))",
        "repaint({(0, 2): 5}, input, neighbors_sides(input))",
        "overlay(rays_down(input), rays_right(input))",
        "rotated_four(keep_color(input, 2))",
        "upscale_3(flip_vertical(trim(input)))",
        "bar(count(components(input)), 3)",
    ],
)
def test_a_program_of_the_language_is_found_again(program: str) -> None:
    task = task_of(program, draw_grids(3))
    solutions = Search(task.without_answers(), LIMITS).run().solutions
    truth = task.test[0].output
    assert truth is not None
    assert any(np.array_equal(solution.answers[0], truth) for solution in solutions[:2])
    for solution in solutions:
        for pair in task.train:
            assert np.array_equal(evaluate(solution.program, pair.input), pair.output)  # type: ignore[arg-type]


def test_a_ground_that_is_not_black_is_exchanged_and_put_back() -> None:
    inputs = [np.where(given == 0, 8, given).astype(np.uint8) for given in draw_grids(5, height=7, width=7)]
    task = task_of("on_ground_of(trim(on_black(input)), input)", inputs)
    solutions = Search(task.without_answers(), LIMITS).run().solutions
    assert np.array_equal(solutions[0].answers[0], task.test[0].output)  # type: ignore[arg-type]


def test_answers_of_tests_change_nothing() -> None:
    task = task_of("trim(rotate_90(input))", draw_grids(3))
    other = Task("t", task.train, (Pair(task.test[0].input, grid("12/34")),))
    runs = [Search(one, LIMITS).run() for one in (task.without_answers(), task, other)]
    assert len({run.tested for run in runs}) == 1
    assert len({str(run.solutions[0].program) for run in runs}) == 1


def test_the_search_is_the_same_every_time() -> None:
    task = task_of("fall_left(keep_color(input, 2))", draw_grids(8)).without_answers()
    one, two = (Search(task, Limits(seconds=None, programs=4000)).run() for _ in range(2))
    assert (one.tested, one.refused, one.novel) == (two.tested, two.refused, two.novel)
    assert [str(s.program) for s in one.solutions] == [str(s.program) for s in two.solutions]


def noise_task(side: int) -> Task:
    """A task without a rule."""
    rng = np.random.default_rng(0)
    grids = rng.integers(0, 10, (8, side, side)).astype(np.uint8)
    return Task("noise", tuple(Pair(grids[i], grids[i + 1]) for i in range(0, 6, 2)), (Pair(grids[6], None),))


class RecordingSearch(Search):
    """A search that records how many programs had been tried when each expansion began."""

    def __init__(self, task: Task, limits: Limits) -> None:
        self.starts: list[int] = []
        super().__init__(task, limits)

    def _expand(self, number: int, position: int) -> None:
        self.starts.append(self.outcome.tested + self.outcome.refused)
        super()._expand(number, position)

    def _pair(self, number: int, position: int) -> None:
        self.starts.append(self.outcome.tested + self.outcome.refused)
        super()._pair(number, position)


@pytest.mark.parametrize("programs", [1, 500, 1000])
def test_no_expansion_begins_once_the_limit_of_programs_is_reached(programs: int) -> None:
    search = RecordingSearch(noise_task(10), Limits(seconds=None, programs=programs))
    outcome = search.run()
    assert outcome.ended == "programs"
    assert all(tried < programs for tried in search.starts)
    assert outcome.tested + outcome.refused >= programs


def test_arrays_and_the_size_of_programs_are_limited() -> None:
    outcome = Search(noise_task(6), Limits(seconds=None, arrays=3000)).run()
    assert outcome.ended == "arrays"
    task = task_of("trim(rotate_90(input))", draw_grids(3))
    outcome = Search(task, Limits(size=1, seconds=None, programs=3000)).run()
    assert all(solution.program.size <= 3 for solution in outcome.solutions)  # an undone last step may be added


@pytest.mark.slow
def test_seconds_hold_on_the_largest_grids() -> None:
    began = time.thread_time()  # of this thread alone, as the machine may be busy
    outcome = Search(noise_task(30), Limits(seconds=2.0)).run()
    assert outcome.ended == "seconds"
    assert time.thread_time() - began < 3.0  # a tenth is the aim


def test_tables_equal_those_of_a_loop_over_cells() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        shape = (2, int(rng.integers(1, 5)), int(rng.integers(1, 5)))
        one, other = (rng.integers(0, 3, shape).astype(np.uint8) for _ in range(2))
        colors = np.where(rng.random() < 0.5, (one + other) % 4, rng.integers(0, 3, shape)).astype(np.uint8)
        seen: dict[tuple[int, int], set[int]] = {}
        for a, b, color in zip(one.ravel(), other.ravel(), colors.ravel(), strict=True):
            seen.setdefault((int(a), int(b)), set()).add(int(color))
        target = TargetCells(tuple(colors), rng)
        table = target.infer_table(one.ravel(), other.ravel(), keep=False)
        if any(len(outputs) > 1 for outputs in seen.values()):
            assert table is None
        else:
            assert table is not None
            assert table.literal.table == {values: outputs.pop() for values, outputs in seen.items()}


def test_sampled_pairs_of_cells_never_rule_out_a_field_that_explains_the_output() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        base, one, other = (rng.integers(0, 3, (1, 5, 5)).astype(np.uint8) for _ in range(3))
        target = TargetCells(tuple((3 * base + one) % 10), rng)
        fields = FieldIndex(target, 4, 10)
        fields.add(0, Kind.GRID, base.ravel())
        fields.add(1, Kind.FIELD, other.ravel())
        position = fields.add(2, Kind.FIELD, one.ravel())
        if target.infer_table(base.ravel(), keep=True) is None:
            assert (0, position) in fields.find_pairs(position)
        target = TargetCells(tuple((5 * base + 3 * one + other) % 10), rng)
        fields = FieldIndex(target, 4, 10)
        for number, plane in enumerate((base, one, other)):
            fields.add(number, Kind.FIELD if number else Kind.GRID, plane.ravel())
        alone = [target.infer_table(base.ravel(), plane.ravel(), keep=True) for plane in (one, other)]
        if alone == [None, None]:
            assert (0, 1, 2) in fields.find_triples(2, 1)


def test_overlays_are_those_of_a_loop_over_all_pairs() -> None:
    rng = np.random.default_rng(3)
    overlays = 0
    for _ in range(40):
        planes = [(rng.integers(1, 3, 6) * (rng.random(6) < 0.5)).astype(np.uint8) for _ in range(6)]
        target = np.where(planes[2] == 0, planes[4], planes[2])
        index = OverlayIndex(target, 10)
        pairs = {pair for number, plane in enumerate(planes) for pair in index.add(number, plane)}
        for top, above in enumerate(planes):
            for bottom, below in enumerate(planes):
                produces = np.array_equal(np.where(above == 0, below, above), target) and above.any()
                near = (below != target).sum() <= 0.6 * len(target)
                clean = not ((above != 0) & (above != target)).any()
                if top != bottom and near and clean:
                    assert ((top, bottom) in pairs) == bool(produces)
                    overlays += bool(produces)
    assert overlays > 0


def test_undone_last_steps_give_the_outputs_when_done_again() -> None:
    inputs = draw_grids(4)
    outputs = [evaluate(parse("flip_vertical(mirror_right(upscale_2(input)))"), given) for given in inputs]
    targets = find_targets(outputs, inputs, False)  # type: ignore[arg-type]
    assert len(targets) > 8
    assert any(np.array_equal(target.grids[0], inputs[0]) for target in targets)
    for target in targets:
        program = target.finish(parse("input"))
        for grids, output in zip(target.grids, outputs, strict=True):
            assert np.array_equal(evaluate(program, grids), output)  # type: ignore[arg-type]


def test_the_solver_answers_real_tasks_and_explains_them() -> None:
    names = {"0d3d703e", "6150a2bd", "a416b8f3"}
    tasks = [task for task in load_tasks("arc1:train") if task.task_id in names]
    answers = SearchSolver("dsl").solve([task.without_answers() for task in tasks], Budget(seed=0))
    predictions = {prediction.task_id: prediction for prediction in answers}
    assert predictions.keys() == names
    for task in tasks:
        best = predictions[task.task_id].candidates[0][0]
        assert np.array_equal(best.grid, task.test[0].output)  # type: ignore[arg-type]
        program, sentence = best.explanation.splitlines()
        assert np.array_equal(evaluate(parse(program), task.test[0].input), best.grid)  # type: ignore[arg-type]
        assert sentence == explain(parse(program))


def test_a_budget_in_programs_gives_the_same_answers_however_slow_the_machine() -> None:
    task = next(task for task in load_tasks("arc1:train") if task.task_id == "05f2a901").without_answers()
    few, again = (next(SearchSolver("dsl").solve([task], Budget(programs_per_task=3000))) for _ in range(2))
    assert few.programs == again.programs
    assert 2000 < few.programs <= 3000
    limits = [
        search_limits(budget)
        for budget in (Budget(), Budget(seconds_per_task=7), Budget(programs_per_task=9), Budget(8, 4, 7, 9))
    ]
    assert [(one.seconds, one.programs) for one in limits] == [
        (5.0, Limits.programs), (7, Limits.programs), (None, 9), (7, 9),
    ]  # fmt: skip


def test_evaluation_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    for number, program in enumerate(["flip_vertical(input)", "trim(input)", "transpose(input)", "grow(input)"]):
        task = task_of(program, draw_grids(number))
        (folder / f"t{number}.json").write_text(json.dumps(task_to_json(task)))
    output = tmp_path / "out.json"
    arguments = ["--arc-dev-root", str(folder), "--output", str(output), "--workers", "1", "--variants", "dsl_only"]
    kept, calls = evaluate_arc_module.score_outcome, []

    def interrupted(*args: object) -> object:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return kept(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate_arc_module, "score_outcome", interrupted)
    assert evaluate_arc(arguments) == 130
    assert not output.exists()
    assert evaluate_arc([*arguments, "--explain"]) == 0
    assert len(calls) == 5  # the third task alone was done twice
    results = json.loads(output.read_text())
    assert results["variants"]["dsl_only"]["solved_count"] == 4
    assert results["total_tasks"] == 4
    assert "The output is" in capsys.readouterr().out
    assert (tmp_path / "out_explained" / "t0.svg").read_text().startswith("<svg")
    assert evaluate_arc(["--tasks", str(tmp_path / "no.jsonl"), "--output", str(output)]) == 2


@pytest.mark.slow
def test_searches_run_on_a_dask_cluster() -> None:
    distributed = pytest.importorskip("distributed")
    tasks = [task_of(p, draw_grids(n), f"t{n}") for n, p in enumerate(["trim(input)", "flip_vertical(input)"] * 3)]
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        outcomes = dict(search_tasks(tasks, LIMITS))
    assert set(outcomes) == set(range(6))
    assert all(outcome.solutions for outcome in outcomes.values())
