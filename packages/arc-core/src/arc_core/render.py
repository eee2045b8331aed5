"""Draws grids and tasks in the standard ARC palette: for the terminal, as SVG and as PNG."""

import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text

from arc_core.grid import Grid
from arc_core.task import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Source: the testing interface of fchollet/ARC-AGI, colours 0..9.
PALETTE = (
    "#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00",
    "#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25",
)  # fmt: skip
COLOR_NAMES = ("black", "blue", "red", "green", "yellow", "grey", "magenta", "orange", "azure", "maroon")
_LINE = "#555555"
_CELL = 20  # SVG units
_GAP = 28

Row = tuple[str, Grid, Grid | None]  # label, input, output


def task_rows(task: Task, answers: bool = True) -> list[Row]:
    """Returns the pairs of a task as labelled rows; test outputs are None if `answers` is false or they are unknown."""
    rows: list[Row] = [(f"train {i}", pair.input, pair.output) for i, pair in enumerate(task.train)]
    return rows + [(f"test {i}", pair.input, pair.output if answers else None) for i, pair in enumerate(task.test)]


def task_to_text(task: Task, color: bool, width: int = 100, answers: bool = True) -> Text:
    """Draws a task for a terminal, as many pairs side by side as the width holds.

    Args:
        task: the task.
        color: draw each cell as two coloured blanks; otherwise as a digit.
        width: columns of the terminal.
        answers: show test outputs that are known.
    """
    return _wrap_blocks(
        [_pair_block(label, source, target, color) for label, source, target in task_rows(task, answers)], width
    )


def grids_to_text(titled: Sequence[tuple[str, Grid]], color: bool, width: int = 100) -> Text:
    """Draws grids with a title above each, as many side by side as the width holds.

    Args:
        titled: title and grid, in the order of drawing.
        color: draw each cell as two coloured blanks; otherwise as a digit.
        width: columns of the terminal.
    """
    return _wrap_blocks([[Text(title, style="bold"), *_grid_lines(grid, color)] for title, grid in titled], width)


def _wrap_blocks(blocks: Sequence[list[Text]], width: int) -> Text:
    """Arranges blocks of lines in rows of at most `width` columns."""
    text = Text(no_wrap=True, overflow="ignore")
    row: list[list[Text]] = []
    used = 0
    for block in [*blocks, None]:
        block_width = max(line.cell_len for line in block) + 4 if block else 0
        if row and (block is None or used + block_width > width):
            text.append_text(_side_by_side(row))
            row, used = [], 0
        if block:
            row.append(block)
            used += block_width
    return text


def _pair_block(label: str, source: Grid, target: Grid | None, color: bool) -> list[Text]:
    left = _grid_lines(source, color)
    right = _grid_lines(target, color) if target is not None else [Text(" ?")]
    height = max(len(left), len(right))
    left_width = left[0].cell_len
    size = f"{source.shape[0]}x{source.shape[1]} -> "
    size += f"{target.shape[0]}x{target.shape[1]}" if target is not None else "?"
    lines = [Text(f"{label}  {size}", style="bold")]
    for index in range(height):
        line = left[index].copy() if index < len(left) else Text(" " * left_width)
        line.append("  ->  " if index == (height - 1) // 2 else "      ")
        if index < len(right):
            line.append_text(right[index])
        lines.append(line)
    return lines


def _grid_lines(grid: Grid, color: bool) -> list[Text]:
    lines = []
    for row in grid.tolist():
        line = Text()
        for cell in row:
            if color:
                line.append("  ", Style(bgcolor=PALETTE[cell]))
            else:
                line.append(f" {cell}")
        lines.append(line)
    return lines


def _side_by_side(blocks: Sequence[Sequence[Text]]) -> Text:
    text = Text(no_wrap=True, overflow="ignore")
    for index in range(max(map(len, blocks))):
        for column, block in enumerate(blocks):
            line = block[index].copy() if index < len(block) else Text()
            if column < len(blocks) - 1:
                line.append(" " * (max(other.cell_len for other in block) + 4 - line.cell_len))
            text.append_text(line)
        text.append("\n")
    text.append("\n")
    return text


def grid_to_svg(grid: Grid, x: float = 0, y: float = 0, cell: float = _CELL) -> str:
    """Draws a grid as an SVG group of one rectangle for each cell, with a background that shows through as grid lines.

    Args:
        grid: the grid.
        x, y: position of its upper left corner, in SVG units.
        cell: side of a cell, in SVG units.
    """
    height, width = grid.shape
    background = f'<rect width="{width * cell:g}" height="{height * cell:g}" fill="{_LINE}"/>'
    parts = [f'<g transform="translate({x:g} {y:g})">{background}']
    for row, colors in enumerate(grid.tolist()):
        parts += [
            f'<rect x="{column * cell + 0.5:g}" y="{row * cell + 0.5:g}" width="{cell - 1:g}" height="{cell - 1:g}" '
            f'fill="{PALETTE[color]}"/>'
            for column, color in enumerate(colors)
        ]
    return "".join([*parts, "</g>"])


def task_to_svg(task: Task, answers: bool = True) -> str:
    """Draws a task as one SVG document, one row for each pair, with a description for screen readers."""
    rows = task_rows(task, answers)
    left = max(source.shape[1] for _, source, _ in rows) * _CELL
    right = max((target.shape[1] for _, _, target in rows if target is not None), default=1) * _CELL
    y = 24.0
    parts = []
    for label, source, target in rows:
        parts.append(f'<text x="8" y="{y + 8:g}">{escape(label)}</text>')
        y += 16
        height = max(source.shape[0], target.shape[0] if target is not None else 1) * _CELL
        parts.append(grid_to_svg(source, 8 + left - source.shape[1] * _CELL, y))
        middle = y + height / 2
        arrow = f"M{8 + left + 10} {middle:g}h24m-8 -6l8 6l-8 6"
        parts.append(f'<path d="{arrow}" fill="none" stroke="{_LINE}" stroke-width="2"/>')
        if target is not None:
            parts.append(grid_to_svg(target, 8 + left + 44, y))
        else:
            parts.append(f'<text x="{8 + left + 48}" y="{middle + 5:g}">?</text>')
        y += height + _GAP
    width = left + right + 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {y:g}" width="{width:g}" height="{y:g}" '
        f'role="img" font-family="sans-serif" font-size="14" fill="#222">'
        f"<title>ARC task {escape(task.task_id)}: {len(task.train)} demonstrations, {len(task.test)} tests</title>"
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="8" y="16" font-weight="bold">{escape(task.task_id)}</text>' + "".join(parts) + "</svg>\n"
    )


def task_to_png(task: Task, answers: bool = True) -> bytes:
    """Draws a task as a PNG, one column for each pair, inputs above outputs."""
    # Imported here: matplotlib takes most of a second, and only this function needs it.
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    rows = task_rows(task, answers)
    figure = Figure(figsize=(2.2 * len(rows), 4.8), layout="constrained")
    axes = figure.subplots(2, len(rows), squeeze=False)
    colors = ListedColormap(PALETTE)
    for column, (label, source, target) in enumerate(rows):
        for axis, grid, name in ((axes[0][column], source, label), (axes[1][column], target, "output")):
            axis.set_xticks([])
            axis.set_yticks([])
            if grid is None:
                axis.text(0.5, 0.5, "?", ha="center", va="center", fontsize=28)
                axis.set_frame_on(False)
                continue
            height, width = grid.shape
            axis.imshow(grid, cmap=colors, vmin=0, vmax=9, interpolation="nearest")
            axis.set_xticks([x - 0.5 for x in range(width + 1)], minor=True)
            axis.set_yticks([y - 0.5 for y in range(height + 1)], minor=True)
            axis.grid(which="minor", color=_LINE, linewidth=0.5)
            axis.tick_params(which="minor", length=0)
            axis.set_title(f"{name}  {height}x{width}", fontsize=9)
    figure.suptitle(task.task_id, fontsize=11)
    return figure_to_png(figure)


def figure_to_png(figure: "Figure") -> bytes:
    """Renders a matplotlib figure as a PNG without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
