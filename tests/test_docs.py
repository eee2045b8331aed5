"""Everything that README and docs name exists: commands, their flags, paths, links."""

import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import hrm.config
import jepa_hrl.jepa.config
import rlan.config
from arc_core.config import config_keys
from jepa_hrl.rl.config import ReasonerConfig
from jepa_hrl.synthesis.config import SynthesisConfig
from jepa_hrl.world_model.config import ProgramJepaConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("packages/*/README.md"))]
SCRIPTS = {
    name: target
    for member in (ROOT / "packages").iterdir()
    for name, target in tomllib.loads((member / "pyproject.toml").read_text())["project"].get("scripts", {}).items()
}
KINDS = (
    rlan.config.RlanConfig, hrm.config.HrmConfig, jepa_hrl.jepa.config.JepaConfig, ProgramJepaConfig, ReasonerConfig,
)  # fmt: skip
OUTSIDE = {
    "pytest",
    "tensorboard",
    "ruff",
    "mypy",
    "lint-imports",
    "torchrun",
    "python",
    "dask",
}  # commands of other packages in our environment


def commands(page: Path) -> list[list[str]]:
    """Returns the words after `uv run` of every command on the page, without a comment behind it."""
    result = []
    text = page.read_text().replace("\\\n", " ")
    for match in re.finditer(r"uv run +([^`\n]+)", text):
        line = re.split(r"\s{3,}|\s#", match[1])[0].strip()
        try:
            words = shlex.split(line)
        except ValueError:  # the sentence around it has an apostrophe
            words = line.split()
        if words[0] == "--package":
            assert (ROOT / "packages" / words[1]).is_dir(), line
            words = words[2:]
        result.append(words)
    return result


@cache
def read_help(script: str, *subcommand: str) -> str:
    """Returns the help text of a command or subcommand."""
    program = Path(sys.executable).parent / script
    done = subprocess.run(
        [program, *subcommand, "--help"], capture_output=True, text=True, check=True, env={"COLUMNS": "200"}, cwd=ROOT
    )
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    for words in commands(page):
        program = words[0].rstrip(".,;:)")
        if program.startswith("tools/"):
            assert (ROOT / program).is_file(), words
        elif not program.startswith("-"):
            assert program in SCRIPTS or program in OUTSIDE, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_exist(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+?)\)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), link
    for path in re.findall(r"(?<![\w/.])((?:configs|docs|tools|packages|tests)/[\w./-]*\w)", text):
        here = [ROOT / path, *ROOT.glob(f"{path}*")]
        assert any(one.exists() for one in here) or "NAME" in path, path


@pytest.mark.slow
def test_switches_exist() -> None:
    """Checks the flags of every command on every page; those with a dot are keys of recipes."""
    keys = {key for kind in (*KINDS, SynthesisConfig) for key in config_keys(kind)}
    missing = []
    for page in PAGES:
        for words in (words for words in commands(page) if words[0] in SCRIPTS):
            subcommand = words[1:2] if words[0] in ("eval", "arc-data") and words[1:2] and words[1].isalpha() else []
            for switch in re.findall(r"--[\w.-]*\w", " ".join(words)):
                if "." in switch or words[0] == "generate-dataset":
                    exists = switch[2:] in keys or switch in read_help(words[0])
                else:
                    exists = bool(re.search(rf"{switch}\b(?!-)", read_help(words[0], *subcommand)))
                missing += [] if exists else [(page.name, words[0], switch)]
    assert missing == []


@pytest.mark.slow
def test_every_help_fits_a_screen_and_shows_an_example() -> None:
    for script in SCRIPTS:
        text = read_help(script)
        assert len(text.splitlines()) <= 40, script
        assert re.search("example", text, re.IGNORECASE), script


@pytest.mark.parametrize("tool", ["write_config_reference.py"])
def test_generated_pages_are_current(tool: str) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tools" / tool), "--check"], check=False)
    assert done.returncode == 0, f"uv run tools/{tool}"


def test_the_index_lists_every_page_and_the_readme_the_index() -> None:
    linked = set(re.findall(r"\(([\w-]+\.md)\)", (ROOT / "docs" / "index.md").read_text()))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} == linked
    assert "(docs/index.md)" in (ROOT / "README.md").read_text()
