"""Scores by kinds of tasks, and confidence against correctness."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from arc_core.task import Task
from arc_eval.scoring.ranks import Ranked
from arc_eval.scoring.statistics import Floats
from arc_eval.storage.records import Lines

_BINS = 10
_MOST_DEMONSTRATIONS = 5


def size_name(task: Task) -> str:
    """The longest side of the test pairs, in steps of five: "06-10"."""
    grids = [grid for pair in task.test for grid in (pair.input, pair.output) if grid is not None]
    top = -(-max(max(grid.shape) for grid in grids) // 5) * 5
    return f"{top - 4:02}-{top:02}"


def same_size(task: Task) -> bool:
    """Whether every demonstration's output has its input's size."""
    return all(pair.output is not None and pair.input.shape == pair.output.shape for pair in task.train)


def groups(tasks: Sequence[Task]) -> dict[str, dict[str, list[int]]]:
    """Places of tasks by kind of division, then by its parts; one without parts to compare is left out."""
    divided: dict[str, dict[str, list[int]]] = {
        name: defaultdict(list) for name in ("longest side", "sizes", "demonstrations", "test inputs", "concept")
    }
    for place, task in enumerate(tasks):
        divided["longest side"][size_name(task)].append(place)
        divided["sizes"]["output as large as input" if same_size(task) else "another size"].append(place)
        demonstrations, tests = len(task.train), len(task.test)
        most = demonstrations >= _MOST_DEMONSTRATIONS
        divided["demonstrations"][f"{_MOST_DEMONSTRATIONS} or more" if most else str(demonstrations)].append(place)
        divided["test inputs"][str(tests)].append(place)
        if task.concept is not None:
            divided["concept"][task.concept].append(place)
    return {name: dict(sorted(parts.items())) for name, parts in divided.items() if len(parts) > 1}


def by_group(scores: Floats, divided: dict[str, dict[str, list[int]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean score and number of tasks of every part."""
    return {
        name: {part: {"tasks": len(places), "score": float(scores[places].mean())} for part, places in parts.items()}
        for name, parts in divided.items()
    }


def calibration(lines: Lines, ranked: Ranked, tasks: Sequence[Task]) -> dict[str, object] | None:
    """How often first answers are right, by their confidence; None where there are none.

    The expected calibration error is the mean over answers of the distance between a bin's mean confidence and its
    share of right answers. Source: Guo et al. 2017, equation 3, ten bins of equal width.
    """
    sure, right = [], []
    for task, ranks in zip(tasks, ranked.ranks, strict=True):
        line = lines.get(task.task_id)
        for answers, rank in zip([] if line is None else line["candidates"], ranks, strict=False):
            if answers["grids"]:
                sure.append(answers["confidences"][0])
                right.append(rank == 1)
    if not sure:
        return None
    confidence, correct = np.clip(np.array(sure), 0, 1), np.array(right, dtype=np.float64)
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    shown = [
        {"answers": int((bins == b).sum()), "confidence": float(confidence[bins == b].mean()),
         "right": float(correct[bins == b].mean())}
        for b in np.unique(bins)
    ]  # fmt: skip
    error = sum(part["answers"] * abs(part["confidence"] - part["right"]) for part in shown) / len(sure)
    return {"answers": len(sure), "expected_error": float(error), "bins": shown}
