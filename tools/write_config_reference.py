"""Writes docs/configs.md: every key of every trainer's recipes, from the dataclasses that read them.

uv run tools/write_config_reference.py            writes the page
uv run tools/write_config_reference.py --check    exits with status 1 if the page is not current
"""

import inspect
import re
import sys
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hrm.config import HrmConfig
from jepa_hrl.jepa.config import JepaConfig
from jepa_hrl.rl.config import ReasonerConfig
from jepa_hrl.world_model.config import ProgramJepaConfig
from rlan.config import RlanConfig

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configs.md"
METHODS = {
    "rlan": ("`uv run --package rlan train`, recipes in configs/rlan", RlanConfig),
    "hrm": ("`uv run --package hrm train-hrm`, recipes in configs/hrm", HrmConfig),
    "jepa": ("`uv run train-jepa`, recipes in configs/jepa", JepaConfig),
    "program-jepa": ("`uv run train-program-conditioned-jepa`, recipes in configs/program-jepa", ProgramJepaConfig),
    "active-reasoner": (
        "`uv run train-active-reasoner` and `pretrain-bc`, recipes in configs/active-reasoner and "
        "configs/active-reasoner-bc", ReasonerConfig,
    ),
}  # fmt: skip
HEAD = """# Keys of recipes

Every key is also a command-line flag: `--section.key VALUE`. A recipe states only the keys that differ from these
defaults, or from the recipe that it `extends`. `--print-config` shows the resolved config. An unknown key is refused,
and the message names the nearest known one.

Written by `uv run tools/write_config_reference.py`; a test compares it with the code.
"""


def parse_meanings(kind: type) -> dict[str, str]:
    """Parses the Attributes of a dataclass's docstring; one entry may name several attributes and span lines."""
    _, _, text = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        entry = re.match(r"\s{0,4}(\w+(?:, \w+)*): (.*)", line)
        if entry:
            names = entry[1].split(", ")
            meanings |= dict.fromkeys(names, entry[2])
        elif line.strip():
            meanings |= {name: f"{meanings[name]} {line.strip()}" for name in names}
    return meanings


def describe_values(hint: Any) -> str:
    """Describes the values that a type hint allows."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        return f"{describe_values(inner)} {marks[0]}" if marks else describe_values(inner)
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join("null" if part is type(None) else describe_values(part) for part in get_args(hint))
    names = {bool: "true, false", int: "whole number", float: "number", str: "text"}
    return names.get(hint) or str(hint).replace("typing.", "").removeprefix("<class '").removesuffix("'>")


def format_default(default: object) -> str:
    """Formats a default as YAML writes it."""
    plain = {True: "true", False: "false", None: "null"}.get(default) if isinstance(default, bool | None) else None  # type: ignore[call-overload]
    return plain or (f"{default:g}" if isinstance(default, float) else str(default) or '""')


def make_rows(kind: type, prefix: str = "") -> list[str]:
    """Returns a row of the table for every key, depth first."""
    hints, meanings, rows = get_type_hints(kind, include_extras=True), parse_meanings(kind), []
    for attribute in fields(kind):
        hint, key = hints[attribute.name], prefix + attribute.name
        if is_dataclass(hint):
            rows += make_rows(hint, f"{key}.")  # type: ignore[arg-type]
        else:
            cells = (
                f"`{key}`",
                f"`{format_default(find_default(attribute))}`",
                describe_values(hint),
                meanings.get(attribute.name, ""),
            )
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return rows


def find_default(attribute: "Field[Any]") -> object:
    """Returns the default of a field, "required" if it has none."""
    if attribute.default is not MISSING:
        return attribute.default
    return attribute.default_factory() if attribute.default_factory is not MISSING else "required"


def render_page() -> str:
    """Renders the page with one table for each trainer."""
    parts = [HEAD]
    for name, (command, kind) in METHODS.items():
        parts.append(f"\n## {name}\n\n{command}.\n\n| key | default | values | meaning |\n| --- | --- | --- | --- |\n")
        parts += make_rows(kind)
    return "".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        raise SystemExit(PAGE.read_text(encoding="utf-8") != render_page())
    PAGE.write_text(render_page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")
