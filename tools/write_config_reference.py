"""Writes docs/configs.md: every key of every trainer's recipes, from the dataclasses that read them.

uv run tools/write_config_reference.py            writes the page
uv run tools/write_config_reference.py --check    status 1 where the page is not what would be written
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

Every key is also a switch: `--section.key VALUE`. A recipe gives only what differs from these defaults, or from what
it `extends`. `--print-config` shows what a run would take. An unknown key is refused, with the nearest known one.

Written by `uv run tools/write_config_reference.py`; a test compares it with the code.
"""


def meanings(kind: type) -> dict[str, str]:
    """What a dataclass's docstring says of its attributes; one line may be for several of them."""
    _, _, text = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        entry = re.match(r"\s{0,4}(\w+(?:, \w+)*): (.*)", line)
        if entry:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def values(hint: Any) -> str:
    """The values that a key may have."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        return f"{values(inner)} {marks[0]}" if marks else values(inner)
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join("null" if part is type(None) else values(part) for part in get_args(hint))
    names = {bool: "true, false", int: "whole number", float: "number", str: "text"}
    return names.get(hint) or str(hint).replace("typing.", "").removeprefix("<class '").removesuffix("'>")


def shown(default: object) -> str:
    """A default as YAML would have it."""
    plain = {True: "true", False: "false", None: "null"}.get(default) if isinstance(default, bool | None) else None  # type: ignore[call-overload]
    return plain or (f"{default:g}" if isinstance(default, float) else str(default) or '""')


def rows(kind: type, prefix: str = "") -> list[str]:
    """A line of the table for every key, depth first."""
    hints, said, found = get_type_hints(kind, include_extras=True), meanings(kind), []
    for one in fields(kind):
        hint, key = hints[one.name], prefix + one.name
        if is_dataclass(hint):
            found += rows(hint, f"{key}.")  # type: ignore[arg-type]
        else:
            cells = (f"`{key}`", f"`{shown(default_of(one))}`", values(hint), said.get(one.name, ""))
            found.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return found


def default_of(one: "Field[Any]") -> object:
    """A field's default."""
    if one.default is not MISSING:
        return one.default
    return one.default_factory() if one.default_factory is not MISSING else "required"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, (command, kind) in METHODS.items():
        parts.append(f"\n## {name}\n\n{command}.\n\n| key | default | values | meaning |\n| --- | --- | --- | --- |\n")
        parts += rows(kind)
    return "".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        raise SystemExit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")
