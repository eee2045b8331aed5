"""A picture of some tasks: would a person find the rule?"""

from collections.abc import Sequence
from pathlib import Path

from arc_core.files import write_atomically
from arc_core.randomness import generator_for
from arc_core.render import PALETTE, figure_to_png
from arc_core.task import Task

_COLUMNS = 4
_PAIRS = 3  # shown of each task


def write_contact_sheet(tasks: Sequence[Task], path: Path, shown: int, seed: int) -> None:
    """Draws random tasks, a few pairs each, inputs above outputs, as a PNG."""
    # Imported here: matplotlib takes most of a second.
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    chosen = generator_for(seed, "contact sheet", 0).permutation(len(tasks))[:shown]
    rows = -(-len(chosen) // _COLUMNS)
    figure = Figure(figsize=(4.2 * _COLUMNS, 3.1 * rows), layout="constrained", dpi=70)
    colors = ListedColormap(PALETTE)
    places = figure.add_gridspec(rows, _COLUMNS)
    for place, number in enumerate(chosen.tolist()):
        part = figure.add_subfigure(places[place // _COLUMNS, place % _COLUMNS])
        axes = part.subplots(2, _PAIRS, squeeze=False)
        for column, pair in enumerate((tasks[number].train + tasks[number].test)[:_PAIRS]):
            for row, grid in enumerate((pair.input, pair.output)):
                axis = axes[row][column]
                axis.set_axis_off()
                if grid is not None:
                    axis.imshow(grid, cmap=colors, vmin=0, vmax=9, interpolation="nearest")
        for axis in axes[:, len(tasks[number].train) + len(tasks[number].test) :].ravel():
            axis.set_axis_off()
        part.suptitle(tasks[number].task_id, fontsize=9)
    write_atomically(path, lambda file: file.write(figure_to_png(figure)))
