"""A method of somebody else's, installed beside ours: docs/adding-a-method.md."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "adding-a-method.md").read_text()


def code(language: str) -> str:
    """The page's code in a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_a_method_from_outside_is_found_scored_and_reported(tmp_path: Path) -> None:
    site = tmp_path / "site"
    metadata = site / "toy_mirror-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "toy_mirror.py").write_text(code("python"))
    project = tomllib.loads(code("toml"))["project"]
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(about)
    points = project["entry-points"]["arc.solvers"]
    lines = ["[arc.solvers]", *(f"{name} = {target}" for name, target in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
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
