"""Synthetic tasks: accepted ones are determined; files do not depend on the workers; interrupted runs resume."""

import json
from pathlib import Path

import numpy as np
import pytest

from arc_core.config import workspace_folder
from arc_core.datasets import load_tasks
from arc_core.errors import InputError
from arc_core.task import Pair, Task
from jepa_hrl.dsl.program import INPUT, evaluate, parse
from jepa_hrl.dsl.steps import STEPS
from jepa_hrl.dsl.types import grid
from jepa_hrl.synthesis import dataset
from jepa_hrl.synthesis.cli import main as generate_dataset
from jepa_hrl.synthesis.dataset import build_plans, read_config
from jepa_hrl.synthesis.generator import is_determined, make_practice_task, make_task, primitives_of

CONFIG = workspace_folder() / "configs" / "data" / "pilot_curriculum.yaml"
SMALL = [
    "--task_schedule.phase_i.count", "9", "--task_schedule.phase_ii.count", "9", "--task_schedule.phase_iii.count", "3",
    "--program.length_schedule.phase_iii", "{2: 1.0}", "--grid.max_size", "5",
]  # fmt: skip


@pytest.mark.parametrize("name", ["pilot_curriculum", "pilot_ood", "multi_phase_curriculum", "prior_curriculum"])
def test_every_data_config_can_be_read_and_its_steps_are_known(name: str) -> None:
    config = read_config(workspace_folder() / "configs" / "data" / f"{name}.yaml")
    assert config.name == name
    assert sum(count for _, count in build_plans(config)) >= 1000


def test_every_step_is_a_program_of_the_language() -> None:
    rng = np.random.default_rng(0)
    for step in STEPS.values():
        program = step.apply(INPUT, step.draw(rng, [1, 2, 3]))
        assert parse(str(program)) == program
        assert primitives_of([step])


def test_an_accepted_task_is_what_its_program_makes() -> None:
    plan = build_plans(read_config(CONFIG))[1][0]
    for index in range(6):
        synthetic = make_task(plan, index, seed=5)
        program = parse(str(synthetic.metadata["program"]))
        assert program == synthetic.program
        for pair in synthetic.task.train + synthetic.task.test:
            assert np.array_equal(evaluate(program, pair.input), pair.output)  # type: ignore[arg-type]
            assert not np.array_equal(pair.input, pair.output)  # type: ignore[arg-type]
        assert synthetic.metadata["length"] in (1, 2)


def test_tasks_that_need_not_be_determined_are_those_of_practice() -> None:
    config = read_config(CONFIG, ["--generator.determined", "false", "--grid.max_size", "3"])
    plan = build_plans(config)[1][0]
    tasks = [make_task(plan, index, seed=5) for index in range(12)]
    assert [str(one.program) for one in tasks] == [str(make_practice_task(plan, n, 5).program) for n in range(12)]
    assert not all(is_determined(one.task, one.program, plan.steps) for one in tasks)


def test_a_task_that_a_shorter_program_explains_otherwise_is_not_accepted() -> None:
    steps = [STEPS["flip_horizontal"], STEPS["rotate_180"], STEPS["trim"]]
    symmetric = [grid("120/120"), grid("300/300"), grid("044/044")]  # a half turn looks like a flip here
    program = parse("flip_vertical(flip_horizontal(input))")

    def task(test: str) -> Task:
        pairs = [Pair(g, evaluate(program, g)) for g in [*symmetric, grid(test)]]  # type: ignore[arg-type]
        return Task("t", tuple(pairs[:3]), tuple(pairs[3:]))

    assert not is_determined(task("12/34"), program, steps)  # the flip answers otherwise
    assert not is_determined(task("12/12"), program, steps)  # the flip is shorter and agrees
    clear = [grid("120/340"), grid("300/012"), grid("044/500")]
    pairs = [Pair(g, evaluate(program, g)) for g in [*clear, grid("12/34")]]  # type: ignore[arg-type]
    assert is_determined(Task("t", tuple(pairs[:3]), tuple(pairs[3:])), parse("rotate_180(input)"), steps)


def test_files_are_the_same_whatever_the_workers_and_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(name: str, *more: str) -> int:
        return generate_dataset(["--config", str(CONFIG), "--output-dir", str(tmp_path / name), *SMALL, *more])

    assert generate("one", "--workers", "1") == 0
    assert generate("two", "--workers", "2") == 0
    make, calls = dataset.manifest_line, []

    def interrupt(synthetic: object) -> str:
        calls.append(synthetic)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return make(synthetic)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "manifest_line", interrupt)
    assert generate("three", "--workers", "1") == 130
    with (tmp_path / "three" / "manifest.jsonl.partial").open("a") as file:
        file.write('{"task_id": "half a li')
    assert generate("three", "--workers", "1") == 0
    assert len(calls) < 10 + 21
    one = (tmp_path / "one" / "manifest.jsonl").read_bytes()
    for name in ("two", "three"):
        assert (tmp_path / name / "manifest.jsonl").read_bytes() == one
        assert (tmp_path / name / "summary.json").read_bytes() == (tmp_path / "one" / "summary.json").read_bytes()
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    assert summary["total_tasks"] == 21
    assert summary["phases"] == {"phase_i": 9, "phase_ii": 9, "phase_iii": 3}
    assert sum(summary["program_length_histogram"].values()) == 21
    assert (tmp_path / "one" / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    tasks = load_tasks(f"manifest:{tmp_path / 'one' / 'manifest.jsonl'}")
    assert len({task.content_hash for task in tasks}) == 21
    assert generate("one", "--workers", "1") == 0  # there already
    assert generate("one", "--seed", "3") == 2


@pytest.mark.parametrize(
    ("switches", "reason"),
    [
        (["--grid.max_size", "40"], "grid.max_size must be"),
        (["--generator.allowed_primitives", "[flip]"], "'flip' is not a step"),
        (["--program.length_schedule.phase_i", "{0: 1.0}"], "length_schedule.phase_i must give shares"),
        (["--program.length_schedule.phase_i", "{one: 1.0}"], "must be whole numbers"),
        (["--task_schedule.phase_x.count", "3"], "length_schedule.phase_x"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_bad_config_gets_one_line(
    switches: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate_dataset(["--output-dir", str(tmp_path / "d"), *switches]) == 2
    message = capsys.readouterr().err
    assert reason in message
    assert message.count("\n") == 1


def test_a_phase_without_acceptable_tasks_says_so() -> None:
    config = read_config(CONFIG, ["--generator.allowed_primitives", "[flip_horizontal]"])
    plan = build_plans(config)[2][0]  # flipping twice is idle
    with pytest.raises(InputError, match="no acceptable task"):
        make_task(plan, 0, seed=0)
