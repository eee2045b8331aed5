"""Writes docs/solved-programs.md: ten tasks of arc1:train, the programs that the search finds for them, and pictures.

uv run tools/write_solved_programs.py                     searches, and writes the page and its pictures
uv run tools/write_solved_programs.py --tasks ID [ID ...]  other tasks

The search is `dsl` with a bound on programs and none on seconds, so every machine writes the same page. A task that it
does not solve in its first attempt is left out, and the tool says so.
"""

import argparse
from pathlib import Path

import numpy as np

from arc_core.datasets import load_tasks
from arc_core.task import Task
from jepa_hrl.dsl.program import Expression, explain
from jepa_hrl.search.engine import Limits
from jepa_hrl.search.explain import steps_to_svg
from jepa_hrl.search.parallel import search_tasks

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, PICTURES = DOCS / "solved-programs.md", DOCS / "solved"
PROGRAMS = 60_000  # that a task's search may test
# Solved tasks that together show most families of the language; each with what a person would call its rule.
TASKS = {
    "00d62c1b": "Enclosed cells are filled.",
    "0520fde7": "Two halves are compared cell by cell.",
    "29ec7d0e": "A damaged tiling is repaired.",
    "543a7ed5": "Objects get a frame, and their holes are filled.",
    "88a62173": "The object that differs from the others is cut out.",
    "99fa7670": "Cells shoot rays that turn at the border.",
    "a85d4709": "Each row is coloured by the place of its cell.",
    "9f236235": "A lattice of large squares is summed up, one cell for each.",
    "e8593010": "Objects are coloured by the rank of their size.",
    "f5b8619d": "The picture is tiled, and columns with a cell are marked.",
}
HEAD = f"""# Ten solved tasks

Programs that the plain search (`dsl`) finds for tasks of arc1:train. Each picture shows the task's test input and what
every step of the program makes of it; the last grid is the answer, and it is right. The language is described in
[dsl.md](dsl.md), the search in [search.md](search.md). The tasks were chosen to show different families of primitives;
[results.md](results.md) says how many tasks are solved.

Written by `uv run tools/write_solved_programs.py`: each search may test {PROGRAMS:,} programs.
"""


def section(task: Task, program: Expression, tested: int, title: str) -> str:
    """A task's part of the page.

    Args:
        task: that was solved.
        program: that solves it.
        tested: programs tested until it was found.
        title: what a person would call the rule.
    """
    # One sentence for each part of the program, as a long one has to be read twice.
    sentences = explain(program).replace("; let ", ". Let ").replace("; the output ", ". The output ")
    return (
        f"\n## {task.task_id}\n\n{title}\n\n    {program}\n\n{sentences}\n\n"
        f"![Steps of the program of {task.task_id}](solved/{task.task_id}.svg)\n\n"
        f"*{program.cost:.1f} bits, found after {tested:,} programs.*\n"
    )


def main() -> None:
    """Searches, and writes the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", metavar="ID", default=list(TASKS), help="ids of arc1:train")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: one a core)")
    args = parser.parse_args()
    by_id = {task.task_id: task for task in load_tasks("arc1:train")}
    tasks = [by_id[task_id] for task_id in args.tasks]
    outcomes = dict(search_tasks(tasks, Limits(seconds=None, programs=PROGRAMS), workers=args.workers))
    PICTURES.mkdir(exist_ok=True)
    page = HEAD
    for index, task in enumerate(tasks):
        first = next(iter(outcomes[index].solutions), None)
        answers = first.answers if first is not None else ()
        if first is None or not all(np.array_equal(a, p.output) for a, p in zip(answers, task.test, strict=True)):
            print(f"{task.task_id} is not solved in the first attempt with {PROGRAMS:,} programs")
            continue
        page += section(task, first.program, first.tested, TASKS.get(task.task_id, "A task that you chose."))
        picture = steps_to_svg(task.task_id, first.program, task.test[0].input)
        (PICTURES / f"{task.task_id}.svg").write_text(picture, encoding="utf-8")
    PAGE.write_text(page, encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
