"""What holds across packages: scripts, entry points, recipes, layers."""

import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import hrm.config
import jepa_hrl.jepa.config
import rlan.config
from arc_core.config import load_config
from arc_core.solver import GROUP, SolverEntry
from jepa_hrl.rl.config import OLD_KEYS as REASONER_KEYS
from jepa_hrl.rl.config import ReasonerConfig
from jepa_hrl.synthesis.dataset import read_config
from jepa_hrl.world_model.config import OLD_KEYS as PROGRAM_KEYS
from jepa_hrl.world_model.config import ProgramJepaConfig

ROOT = Path(__file__).parents[1]
LINT_IMPORTS = str(Path(sys.executable).parent / "lint-imports")
MEMBERS = sorted((ROOT / "packages").iterdir())
CONFIG_KINDS = {
    "rlan": (rlan.config.RlanConfig, rlan.config.OLD_KEYS),
    "hrm": (hrm.config.HrmConfig, hrm.config.OLD_KEYS),
    "jepa": (jepa_hrl.jepa.config.JepaConfig, jepa_hrl.jepa.config.OLD_KEYS),
    "program-jepa": (ProgramJepaConfig, PROGRAM_KEYS),
    "active-reasoner": (ReasonerConfig, REASONER_KEYS),
    "active-reasoner-bc": (ReasonerConfig, REASONER_KEYS),
}


def project(member: Path) -> dict[str, dict[str, object]]:
    with (member / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def scripts(member: Path) -> dict[str, str]:
    found = project(member)["project"].get("scripts", {})
    assert isinstance(found, dict)
    return found


def test_script_names_are_unique_because_all_members_share_one_environment() -> None:
    names = Counter(name for member in MEMBERS for name in scripts(member))
    assert [name for name, count in names.items() if count > 1] == []
    assert {"train", "eval", "arc-data"} <= names.keys()


def test_every_script_resolves() -> None:
    for member in MEMBERS:
        for name, value in scripts(member).items():
            assert callable(EntryPoint(name, value, "console_scripts").load())


def test_every_solver_entry_point_resolves() -> None:
    for member in MEMBERS:
        points = project(member)["project"].get("entry-points", {})
        assert isinstance(points, dict)
        for name, value in points.get(GROUP, {}).items():
            assert isinstance(EntryPoint(name, value, GROUP).load(), SolverEntry)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads_and_opens_with_what_it_is_for(path: Path) -> None:
    if path.parent.name == "data":
        assert read_config(path).name == path.stem
    else:
        kind, old = CONFIG_KINDS[path.parent.name]
        load_config(kind, path.parent.name, {}, path, {}, old)
    assert path.read_text().startswith("# ")


def test_every_member_is_a_typed_package_with_a_page() -> None:
    root = project(ROOT)["project"]["dependencies"]
    for member in MEMBERS:
        assert (member / "README.md").stat().st_size > 100
        assert list((member / "src").glob("*/py.typed"))
        assert isinstance(root, list)
        assert project(member)["project"]["name"] in root


def test_layers_hold() -> None:
    found = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


def test_a_layer_that_is_broken_is_noticed(tmp_path: Path) -> None:
    """Guards against a contract that can never fail."""
    text = (ROOT / "pyproject.toml").read_text()
    broken = tmp_path / "contract.toml"
    contract = text[text.index("[tool.importlinter]") :].replace(
        'source_modules = ["arc_core"]\nforbidden_modules = ["rlan", "hrm", "jepa_hrl", "arc_eval"]',
        'source_modules = ["rlan"]\nforbidden_modules = ["arc_core"]',
    )
    assert "rlan" in contract
    broken.write_text(contract)
    command = [LINT_IMPORTS, "--config", str(broken)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 1


def test_no_file_names_a_package_index_or_a_machine() -> None:
    """uv.lock is uv's own; every other file must build anywhere."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    pattern = re.compile("py" + r"pi\.|file" + r"s\.python" + "hosted|index" + r"-url|/ro" + "ot/|/ho" + "me/")
    for name in filter(None, tracked):
        path = ROOT / name
        if name != "uv.lock" and path.suffix in {".py", ".toml", ".md", ".yaml", ".yml", ""} and path.is_file():
            assert not pattern.search(path.read_text(encoding="utf-8")), name
