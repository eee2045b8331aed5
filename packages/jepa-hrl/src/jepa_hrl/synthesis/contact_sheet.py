"""A picture of some tasks of a data set, to see whether a person would find the rules."""

from collections.abc import Sequence
from pathlib import Path

from arc_core.files import write_atomically
from arc_core.randomness import generator_for
from arc_core.render import PALETTE, figure_to_png
from arc_core.task import Task

_COLUMNS = 4
_MAX_PAIRS = 3  # drawn of each task


def write_contact_sheet(tasks: Sequence[Task], path: Path, max_tasks: int, seed: int) -> None:
    """Draws random tasks as a PNG: a few pairs of each, inputs above outputs.

    Args:
        tasks: to choose from.
        path: the file to write.
        max_tasks: how many are drawn.
        seed: of the choice.
    """
    # Imported here: matplotlib takes most of a second.
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    indices = generator_for(seed, "contact sheet", 0).permutation(len(tasks))[:max_tasks]
    rows = -(-len(indices) // _COLUMNS)
    figure = Figure(figsize=(4.2 * _COLUMNS, 3.1 * rows), layout="constrained", dpi=70)
    colors = ListedColormap(PALETTE)
    panels = figure.add_gridspec(rows, _COLUMNS)
    for panel, index in enumerate(indices.tolist()):
        task = tasks[index]
        part = figure.add_subfigure(panels[panel // _COLUMNS, panel % _COLUMNS])
        axes = part.subplots(2, _MAX_PAIRS, squeeze=False)
        for column, pair in enumerate((task.train + task.test)[:_MAX_PAIRS]):
            for row, grid in enumerate((pair.input, pair.output)):
                axis = axes[row][column]
                axis.set_axis_off()
                if grid is not None:
                    axis.imshow(grid, cmap=colors, vmin=0, vmax=9, interpolation="nearest")
        for axis in axes[:, len(task.train) + len(task.test) :].ravel():
            axis.set_axis_off()
        part.suptitle(task.task_id, fontsize=9)
    write_atomically(path, lambda file: file.write(figure_to_png(figure)))
