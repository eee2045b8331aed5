"""Scores of groups of tasks, and the calibration of confidences."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from arc_core.task import Task
from arc_eval.scoring.ranks import AnswerRanks
from arc_eval.scoring.statistics import Floats
from arc_eval.storage.records import Records

_BINS = 10
_MAX_DEMONSTRATIONS = 5  # tasks with as many or more form one group

Groups = dict[str, dict[str, list[int]]]  # indices of tasks by criterion, then by group


def size_bucket(task: Task) -> str:
    """Returns the range of five that holds the longest side of the test pairs, such as "06-10"."""
    grids = [grid for pair in task.test for grid in (pair.input, pair.output) if grid is not None]
    top = -(-max(max(grid.shape) for grid in grids) // 5) * 5
    return f"{top - 4:02}-{top:02}"


def keeps_size(task: Task) -> bool:
    """Whether every demonstration's output has the size of its input."""
    return all(pair.output is not None and pair.input.shape == pair.output.shape for pair in task.train)


def group_tasks(tasks: Sequence[Task]) -> Groups:
    """Groups tasks by size, number of pairs and concept; a criterion that does not divide the tasks is left out."""
    groups: dict[str, dict[str, list[int]]] = {
        name: defaultdict(list) for name in ("longest side", "sizes", "demonstrations", "test inputs", "concept")
    }
    for index, task in enumerate(tasks):
        groups["longest side"][size_bucket(task)].append(index)
        groups["sizes"]["output as large as input" if keeps_size(task) else "another size"].append(index)
        demonstrations, tests = len(task.train), len(task.test)
        is_last_group = demonstrations >= _MAX_DEMONSTRATIONS
        groups["demonstrations"][f"{_MAX_DEMONSTRATIONS} or more" if is_last_group else str(demonstrations)].append(
            index
        )
        groups["test inputs"][str(tests)].append(index)
        if task.concept is not None:
            groups["concept"][task.concept].append(index)
    return {name: dict(sorted(parts.items())) for name, parts in groups.items() if len(parts) > 1}


def score_groups(scores: Floats, groups: Groups) -> dict[str, dict[str, dict[str, float]]]:
    """Computes the mean score and the number of tasks of every group.

    Args:
        scores: (tasks,) score of each task.
        groups: see `group_tasks`.
    """
    return {
        name: {part: {"tasks": len(indices), "score": float(scores[indices].mean())} for part, indices in parts.items()}
        for name, parts in groups.items()
    }


def compute_calibration(records: Records, ranks: AnswerRanks, tasks: Sequence[Task]) -> dict[str, object] | None:
    """Compares the confidence of first answers with the share of them that is right.

    The expected calibration error is the mean over answers of the distance between a bin's mean confidence and its
    share of right answers.

    Args:
        records: a method's answers by task id.
        ranks: the ranks of the right answers among them.
        tasks: the tasks that `ranks` belongs to, in its order.
    Returns:
        Number of answers, expected calibration error and bins; None where there are no answers.
    Source: Guo et al. 2017, equation 3, ten bins of equal width.
    """
    confidences, is_right = [], []
    for task, task_ranks in zip(tasks, ranks.ranks, strict=True):
        record = records.get(task.task_id)
        for answers, rank in zip([] if record is None else record["candidates"], task_ranks, strict=False):
            if answers["grids"]:
                confidences.append(answers["confidences"][0])
                is_right.append(rank == 1)
    if not confidences:
        return None
    confidence, correct = np.clip(np.array(confidences), 0, 1), np.array(is_right, dtype=np.float64)
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    nonempty_bins = [
        {"answers": int((bins == b).sum()), "confidence": float(confidence[bins == b].mean()),
         "right": float(correct[bins == b].mean())}
        for b in np.unique(bins)
    ]  # fmt: skip
    error = sum(part["answers"] * abs(part["confidence"] - part["right"]) for part in nonempty_bins) / len(confidences)
    return {"answers": len(confidences), "expected_error": float(error), "bins": nonempty_bins}
