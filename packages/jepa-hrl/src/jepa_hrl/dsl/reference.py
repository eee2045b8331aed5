"""The language's reference page, written from the primitives' own types, costs and docstrings."""

from jepa_hrl.dsl.library import FAMILIES, PRIMITIVES

_HEAD = """# The language of programs

A program is an expression over `input`, such as `crop(pick_max(size, components(input)))`. It is typed: a `Mask` (0
or 1 a cell) may stand for a `Grid`, and grids and masks for a `Field` (a number 0..255 a cell). Black, colour 0, is the
ground; `on_black` and `on_ground_of` exchange it with another one. A `Measure` gives a number for each of some objects
and is passed by name, as is a `Function` from grid to grid. A `Table` is written `{1: 2, (3, 0): 4}`: of a cell's
values in the fields the colour that it gets. A primitive that has no result for its arguments refuses with a reason,
and so does the program. Programs cost the sum of their parts' bits: a colour 3.3, an entry of a table 3.3, or 1 if it
keeps the colour.

Written by `uv run tools/write_dsl_reference.py`; a test compares it with the code.
"""


def render_reference() -> str:
    """Renders docs/dsl.md: every primitive by family, with its type, bits, meaning and example."""
    parts = [f"{_HEAD}\n{len(PRIMITIVES)} primitives.\n"]
    for family in FAMILIES:
        name = family.__name__.rpartition(".")[2]
        parts.append(f"\n## {name}\n\n{(family.__doc__ or '').strip().splitlines()[0]}\n\n")
        parts.append("| primitive | gives | bits | what | example |\n|---|---|---|---|---|\n")
        for one in (one for one in PRIMITIVES.values() if one.family == name):
            lines = [line.strip() for line in (one.apply.__doc__ or "").strip().splitlines()]
            start = next(index for index, line in enumerate(lines) if line.startswith(">>>"))
            takes = ", ".join(kind.value for kind in one.takes)
            example = f"`{lines[start][4:]}` is `{lines[start + 1]}`".replace("|", "\\|")
            parts.append(f"| `{one.name}({takes})` | {one.gives.value} | {one.cost:g} | {lines[0]} | {example} |\n")
    return "".join(parts)
