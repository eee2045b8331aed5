"""A method of somebody else's, installed beside ours: docs/adding-a-method.md."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOY = '''
from collections.abc import Iterator, Sequence
from pathlib import Path

from arc_core.solver import Budget, Candidate, OpenSolver, SolverEntry, TaskPrediction
from arc_core.task import Task


class Mirror:
    """Answers with the input mirrored."""

    name = "mirror"

    def solve(self, tasks: Sequence[Task], budget: Budget) -> Iterator[TaskPrediction]:
        for task in tasks:
            answers = tuple((Candidate(pair.input[:, ::-1].copy(), explanation="mirrored"),) for pair in task.test)
            yield TaskPrediction(task.task_id, answers, seconds=0.0)


def open_mirror(path: Path | None, device: str) -> OpenSolver:
    return OpenSolver(Mirror())


entry = SolverEntry(open_mirror, needs_checkpoint=False)
'''


@pytest.mark.slow
def test_a_method_from_outside_is_found_scored_and_reported(tmp_path: Path) -> None:
    site = tmp_path / "site"
    metadata = site / "toy_mirror-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "toy_mirror.py").write_text(TOY)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-mirror\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[arc.solvers]\nmirror = toy_mirror:entry\n")
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "arc_eval.cli", "compare", "--data", "arc1:train", "--views", "1", "--methods", "mirror",
         "identity", "--out", str(out)],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(site), "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {method["label"]: method for method in json.loads((out / "results.json").read_text())["methods"]}
    assert found["mirror"]["scores"]["solved"] == 1  # 67a3c6ac
    assert "mirror" in (out / "report.html").read_text()
