"""External files are only data: no code in them is run, and nothing is downloaded."""

import ast
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from arc_core.errors import InputError
from arc_core.solver import discover_solvers
from arc_core.yaml_text import _Loader

ROOT = Path(__file__).parents[1]
SOURCES = sorted(ROOT.glob("packages/*/src/**/*.py"))
NETWORK = {"socket", "urllib", "http", "requests", "httpx", "ftplib", "smtplib", "xmlrpc"}


def find_imports(tree: ast.AST) -> set[str]:
    """Returns the top-level packages that a module imports."""
    packages = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            packages.add((node.module or "").partition(".")[0])
    return packages


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "packages")))
def test_sources_run_no_data_and_open_no_connection(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not find_imports(tree) & NETWORK
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        words = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name not in ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "joblib.load"), name
        if name == "torch.load":
            assert words.get("weights_only") == "True"
        if name in ("np.load", "numpy.load"):
            assert words.get("allow_pickle", "False") == "False"
        if name == "yaml.load":
            assert path.name == "yaml_text.py" and issubclass(_Loader, yaml.SafeLoader)
        assert words.get("shell", "False") == "False"


class Evil:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def write_evil_checkpoint(path: Path, mark: Path) -> Path:
    """Writes a file in torch's format whose pickle creates the folder `mark` when it is loaded."""
    torch.save({"format": 2, "method": "rlan", "step": 1, "model": {}}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, pickle.dumps(Evil(mark), protocol=2) if name.endswith("data.pkl") else content)
    return path


def test_the_checkpoint_of_the_next_test_is_harmful(tmp_path: Path) -> None:
    torch.load(write_evil_checkpoint(tmp_path / "step_00000001.pt", tmp_path / "mark"), weights_only=False)
    assert (tmp_path / "mark").is_dir()


@pytest.mark.parametrize("name", [name for name, entry in discover_solvers().entries.items() if entry.needs_checkpoint])
def test_no_method_runs_code_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    file = write_evil_checkpoint(tmp_path / "step_00000001.pt", tmp_path / "mark")
    with pytest.raises(InputError) as caught:
        discover_solvers().entries[name].open(file, "cpu")
    assert "step_00000001.pt" in str(caught.value)
    assert not (tmp_path / "mark").exists()


BLOCKED = """
import socket
def refuse(self, address, *rest):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        raise SystemExit(f"connected to {address}")
    return connect(self, address, *rest)
connect = socket.socket.connect
socket.socket.connect = refuse
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["-m", "arc_eval.cli", "compare", "--limit", "2", "--methods", "identity", "dsl", "--programs-per-task", "500"],
        ["-m", "hrm", "--training.max_steps", "4", "--device.name", "cpu"],
    ],
    ids=["compare", "train"],
)
def test_nothing_is_downloaded_at_run_time(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    where = ["--out", str(tmp_path / "out")] if "compare" in command else ["--run-dir", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, *command, *where], capture_output=True, text=True, check=False, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "connected to" not in done.stderr
