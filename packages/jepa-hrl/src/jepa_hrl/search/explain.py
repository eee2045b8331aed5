"""Explanations of programs: the intermediate grids of an execution, as a list and as a picture."""

from html import escape

import numpy as np

from arc_core.grid import Grid, check_grid
from arc_core.render import grid_to_svg
from jepa_hrl.dsl.primitives.drawing import draw
from jepa_hrl.dsl.program import Call, Expression, Input, evaluate, explain
from jepa_hrl.dsl.types import Kind, Object, Objects

_CELL = 14
_GAP = 26


def trace_steps(program: Expression, grid: Grid) -> list[tuple[str, Grid]]:
    """Returns the input and every intermediate grid, each with the name of the primitive that made it, innermost first.

    Objects are drawn in their places; numbers and colours are left out.
    """
    pictures: dict[Expression, tuple[str, Grid]] = {}

    def visit(part: Expression) -> None:
        if part in pictures or not isinstance(part, Call | Input):
            return
        for argument in getattr(part, "arguments", ()):
            visit(argument)
        picture = _picture(part, grid)
        if picture is not None:
            pictures[part] = (part.name if isinstance(part, Call) else "input", picture)

    visit(program)
    return list(pictures.values())


def _picture(part: Expression, grid: Grid) -> Grid | None:
    """Returns a part's value as a grid; None if it cannot be drawn."""
    value = evaluate(part, grid)
    if isinstance(value, Object):
        value = Objects((value,))
    if isinstance(value, Objects):
        value = draw(value)
    if not isinstance(value, np.ndarray) or (part.kind is Kind.FIELD and value.max() > 9):
        return None
    return check_grid(np.ascontiguousarray(value))


def steps_to_svg(task_id: str, program: Expression, grid: Grid) -> str:
    """Draws an execution from left to right as an SVG whose title is the program's sentence.

    Args:
        task_id: the heading.
        program: the program.
        grid: (H, W) the input.
    """
    parts, x, tallest = [], 12.0, 0
    for name, picture in trace_steps(program, grid):
        wide = max(picture.shape[1] * _CELL, 7 * len(name))
        parts.append(f'<text x="{x:g}" y="40">{escape(name)}</text>' + grid_to_svg(picture, x, 50, _CELL))
        x += wide + _GAP
        tallest = max(tallest, picture.shape[0] * _CELL)
    height = tallest + 66
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x:g} {height}" width="{x:g}" height="{height}" '
        f'role="img" font-family="sans-serif" font-size="12" fill="#222"><title>{escape(explain(program))}</title>'
        f'<rect width="100%" height="100%" fill="#fff"/><text x="12" y="18" font-weight="bold">{escape(task_id)}</text>'
        + "".join(parts) + "</svg>\n"
    )  # fmt: skip
