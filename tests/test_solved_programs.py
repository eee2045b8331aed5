"""docs/solved-programs.md: every program on the page solves its task, and every task has its picture."""

import re
from pathlib import Path

import numpy as np
import pytest

from arc_core.datasets import load_tasks
from jepa_hrl.dsl.program import evaluate, parse

DOCS = Path(__file__).parents[1] / "docs"
PROGRAMS = dict(
    re.findall(
        r"^## (\w{8})\n\n.+\n\n {4}(.+)$", (DOCS / "solved-programs.md").read_text(encoding="utf-8"), re.MULTILINE
    )
)


def test_the_page_has_ten_tasks_with_a_picture_each() -> None:
    assert len(PROGRAMS) == 10
    assert {path.stem for path in (DOCS / "solved").glob("*.svg")} == PROGRAMS.keys()


@pytest.mark.parametrize("task_id", PROGRAMS)
def test_the_program_gives_every_output_of_its_task(task_id: str) -> None:
    (task,) = (task for task in load_tasks("arc1:train") if task.task_id == task_id)
    for pair in task.train + task.test:
        assert np.array_equal(evaluate(parse(PROGRAMS[task_id]), pair.input), pair.output)  # type: ignore[arg-type]
