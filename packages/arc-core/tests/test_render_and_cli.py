import io
import struct
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from arc_core.cli import main
from arc_core.render import PALETTE, task_to_png, task_to_svg, task_to_text
from arc_core.task import Task


@pytest.fixture
def task(random_task: Callable[..., Task]) -> Task:
    return random_task([((2, 3), (4, 6)), ((3, 3), (1, 1)), ((3, 3), (2, 2))])


def draw(task: Task, color: bool, width: int) -> str:
    console = Console(
        file=io.StringIO(), force_terminal=color, color_system="truecolor" if color else None, width=width
    )
    console.print(task_to_text(task, color, width), crop=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminal_shows_palette_colors_or_digits(task: Task) -> None:
    red, green, blue = (int(PALETTE[task.train[0].input[0, 0]][i : i + 2], 16) for i in (1, 3, 5))
    assert f"48;2;{red};{green};{blue}m" in draw(task, True, 100)
    text = draw(task, False, 100)
    assert "\x1b" not in text
    assert "train 0  2x3 -> 4x6" in text
    assert " ".join(map(str, task.test[0].input[0].tolist())) in text


def test_a_narrow_terminal_stacks_pairs(task: Task) -> None:
    assert max(map(len, draw(task, False, 40).splitlines())) <= 40
    assert len(draw(task, False, 40).splitlines()) > len(draw(task, False, 200).splitlines())


def test_answers_can_be_left_out(task: Task) -> None:
    text = Console(file=io.StringIO(), width=200)
    text.print(task_to_text(task, False, 200, answers=False))
    assert isinstance(text.file, io.StringIO)
    assert "test 0  3x3 -> ?" in text.file.getvalue()


def test_the_svg_is_well_formed_and_has_every_cell(task: Task) -> None:
    root = ET.fromstring(task_to_svg(task))
    fills = [element.get("fill") for element in root.iter("{http://www.w3.org/2000/svg}rect")]
    cells = sum(grid.size for p in task.train + task.test for grid in (p.input, p.output) if grid is not None)
    assert sum(fill in PALETTE for fill in fills) == cells
    assert "made" in (root.findtext("{http://www.w3.org/2000/svg}title") or "")
    assert task_to_svg(task, answers=False).count("<g ") == 5


def test_the_png_is_a_picture(task: Task) -> None:
    data = task_to_png(task)
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 300
    assert height > 300


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["arc-data", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    return main()


def test_every_command_runs_on_real_tasks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    svg, png = str(tmp_path / "t.svg"), str(tmp_path / "t.png")
    for arguments, expected in (
        (["list", "arc2:eval"], "train"),
        (["stats", "arc1:train"], "1,302"),
        (["show", "arc1:train/c3e719e8"], "train 2  3x3 -> 9x9"),
        (["show", "arc1:train/c3e719e8", "--no-answers"], "test 0  3x3 -> ?"),
        (["overlap", "arc1:eval", "arc2:train"], "376"),
        (["render", "arc1:train/c3e719e8", "--out", svg], "wrote"),
        (["render", "arc1:train/c3e719e8", "--out", png], "wrote"),
    ):
        assert run(monkeypatch, *arguments) == 0
        assert expected in capsys.readouterr().out


def test_bad_input_gets_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "good.json").write_text('{"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]]}]}')
    for arguments, message in (
        (["list", "arc9:train"], "data spec must be one of"),
        (["show", "arc1:train"], "a task is named SPEC/ID"),
        (["show", "arc1:train/none"], "has no task none"),
        (["render", "arc1:train/c3e719e8", "--out", "x.gif"], "must end in .svg or .png"),
        (["render", "arc1:train/c3e719e8", "--out", "/no/such/x.svg"], "cannot be written"),
    ):
        assert run(monkeypatch, *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert error.count("\n") == 1
    assert run(monkeypatch, "validate", str(tmp_path)) == 2
    assert "1 of 2 files hold a valid task" in capsys.readouterr().out
    assert run(monkeypatch, "validate", str(tmp_path / "good.json")) == 0


def test_validate_takes_task_sets_and_manifests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    task = '{"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]]}]'
    (tmp_path / "set.json").write_text(f'{{"a": {task}}}, "b": {task}}}}}')
    (tmp_path / "m.jsonl").write_text(f'{task}, "task_id": "a"}}\n')
    assert run(monkeypatch, "validate", str(tmp_path / "set.json")) == 0
    assert run(monkeypatch, "validate", str(tmp_path / "m.jsonl")) == 0
    assert "2 valid tasks" in capsys.readouterr().out
