"""Rules that hold across packages: scripts, entry points, recipes, layers."""

import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

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
SOURCES = sorted((ROOT / "packages").glob("*/src/**/*.py"))
CORE = ROOT / "packages" / "arc-core" / "src" / "arc_core"
EVAL = ROOT / "packages" / "eval" / "src" / "arc_eval"
RUNS_AS_PROGRAM = 'if __name__ == "__main__":'


def module_name(path: Path) -> str:
    """Returns the name by which `python -m` runs a source file: a package for its `__main__.py`."""
    parts = path.relative_to(ROOT).with_suffix("").parts[3:]
    return ".".join(parts[:-1] if parts[-1] == "__main__" else parts)


PROGRAMS = [module_name(path) for path in SOURCES if path.name == "__main__.py" or RUNS_AS_PROGRAM in path.read_text()]
CONFIG_KINDS = {
    "rlan": (rlan.config.RlanConfig, rlan.config.OLD_KEYS),
    "hrm": (hrm.config.HrmConfig, hrm.config.OLD_KEYS),
    "jepa": (jepa_hrl.jepa.config.JepaConfig, jepa_hrl.jepa.config.OLD_KEYS),
    "program-jepa": (ProgramJepaConfig, PROGRAM_KEYS),
    "active-reasoner": (ReasonerConfig, REASONER_KEYS),
    "active-reasoner-bc": (ReasonerConfig, REASONER_KEYS),
}


def project(member: Path) -> dict[str, dict[str, object]]:
    """Reads a member's pyproject.toml."""
    with (member / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def scripts(member: Path) -> dict[str, str]:
    """Returns the target of each of a member's scripts by name."""
    targets = project(member)["project"].get("scripts", {})
    assert isinstance(targets, dict)
    return targets


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


def test_every_script_is_a_function_of_a_cli_module() -> None:
    for member in MEMBERS:
        for name, target in scripts(member).items():
            assert target.partition(":")[0].rpartition(".")[2] == "cli", f"{name} = {target}"


def test_only_cli_modules_parse_arguments_and_run_as_programs() -> None:
    """`trainer_arguments` holds the command line of all trainers; eval's two command modules name argparse's type."""
    importers = {path for path in SOURCES if re.search(r"^(import|from) argparse", path.read_text(), re.MULTILINE)}
    assert {path for path in importers if path.name != "cli.py"} == {
        CORE / "trainer_arguments.py", EVAL / "compare.py", EVAL / "result_commands.py",
    }  # fmt: skip
    parsers = {path for path in SOURCES if re.search(r"ArgumentParser|\.parse_(known_)?args\(", path.read_text())}
    assert {path for path in parsers if path.name != "cli.py"} == {CORE / "trainer_arguments.py"}
    readers = {path for path in SOURCES if "sys.argv" in path.read_text()}
    assert {path for path in readers if path.name != "cli.py"} == set()
    programs = {path for path in SOURCES if RUNS_AS_PROGRAM in path.read_text()}
    assert {path for path in programs if path.name != "cli.py"} == set()


@pytest.mark.slow
@pytest.mark.parametrize("module", PROGRAMS)
def test_every_module_that_runs_as_a_program_shows_its_help(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_layers_hold() -> None:
    done = subprocess.run([LINT_IMPORTS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def reverse_layers(contract: dict[str, Any]) -> None:
    contract["layers"].reverse()


@pytest.mark.parametrize(
    ("index", "break_contract"),
    [
        (0, lambda contract: contract["modules"].append("arc_core")),
        (1, lambda contract: contract.update(source_modules=["rlan"], forbidden_modules=["arc_core"])),
        (2, reverse_layers),
        (3, reverse_layers),
    ],
    ids=["independence", "arc_core", "jepa_hrl", "jepa_hrl.rl"],
)
def test_a_layer_that_is_broken_is_noticed(
    index: int, break_contract: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    """Guards against a contract that can never fail: each one is turned round and checked alone."""
    linter: Any = project(ROOT)["tool"]["importlinter"]
    assert len(linter["contracts"]) == 4
    contract = linter["contracts"][index]
    break_contract(contract)
    config = tmp_path / "contract.toml"
    keys = "\n".join(f"{key} = {json.dumps(value)}" for key, value in contract.items())  # JSON's lists are TOML's too
    packages = json.dumps(linter["root_packages"])
    config.write_text(f"[tool.importlinter]\nroot_packages = {packages}\n\n[[tool.importlinter.contracts]]\n{keys}\n")
    done = subprocess.run([LINT_IMPORTS, "--config", str(config)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    assert f"{contract['name']} BROKEN" in " ".join(done.stdout.split())


def test_no_file_names_a_package_index_or_a_machine() -> None:
    """uv.lock is uv's own; every other file must build anywhere."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    pattern = re.compile("py" + r"pi\.|file" + r"s\.python" + "hosted|index" + r"-url|/ro" + "ot/|/ho" + "me/")
    for name in filter(None, tracked):
        path = ROOT / name
        if name != "uv.lock" and path.suffix in {".py", ".toml", ".md", ".yaml", ".yml", ""} and path.is_file():
            assert not pattern.search(path.read_text(encoding="utf-8")), name
