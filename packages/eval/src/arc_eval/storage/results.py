"""The content of results.json: what was declared, scored and tested. results.schema.json says what every
key means."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from arc_core.errors import InputError
from arc_core.task import Task, parse_json, read_bytes
from arc_eval.methods import Row
from arc_eval.scoring.breakdown import by_group, calibration, groups
from arc_eval.scoring.ensemble import LABEL, vote_over_methods
from arc_eval.scoring.ranks import Ranked, Truths, rank_answers
from arc_eval.scoring.statistics import PairedBootstrap, holm, mcnemar, wilson_interval
from arc_eval.storage.records import Lines

SCHEMA = 2


@dataclass(frozen=True)
class Judged:
    """A row with its answers to the scored tasks."""

    row: Row
    lines: Lines
    ranked: Ranked


@dataclass(frozen=True)
class Comparison:
    """Everything that tables, results.json and the report show.

    Attributes:
        header: the protocol, where and when it was run, and what was left out.
        tasks: that are scored.
        judged: rows that answered something, best score first, with the vote over methods.
        unscored: rows that answered nothing, with the reason in their note.
    """

    header: Mapping[str, Any]
    tasks: Sequence[Task]
    judged: Sequence[Judged]
    unscored: Sequence[Row] = field(default_factory=tuple)

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of results.json, computed once for all that show it."""
        solved = [np.array(one.ranked.solved()) for one in self.judged]
        bootstrap = self._bootstrap()
        divided = groups(self.tasks)
        methods = [
            asdict(one.row) | _figures(one, bootstrap, place, self.tasks, divided)
            for place, one in enumerate(self.judged)
        ]
        return {
            "schema": SCHEMA, **self.header, "tasks_scored": len(self.tasks),
            "methods": methods + [asdict(row) | {"scores": None} for row in self.unscored],
            "pairs": self._pairs(bootstrap, solved), "solved_sets": self._sets(solved),
        }  # fmt: skip

    def _bootstrap(self) -> PairedBootstrap:
        scores = np.array([one.ranked.scores() for one in self.judged])
        return PairedBootstrap(scores.reshape(len(self.judged), len(self.tasks)).T)

    def _pairs(self, bootstrap: PairedBootstrap, solved: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Every two methods, the better one first; the vote, made of the others, is not tested against them."""
        places = [place for place, one in enumerate(self.judged) if one.row.method != LABEL]
        scores = [one.ranked.scores() for one in self.judged]
        pairs: list[dict[str, Any]] = []
        for a, b in combinations(places, 2):
            alone = int((solved[a] & ~solved[b]).sum()), int((solved[b] & ~solved[a]).sum())
            pairs.append({
                "first": self.judged[a].row.label, "second": self.judged[b].row.label,
                "difference": float((scores[a] - scores[b]).mean()),
                "difference_95": list(bootstrap.difference(a, b)),
                "only_first": alone[0], "only_second": alone[1], "p": mcnemar(*alone),
            })  # fmt: skip
        for pair, adjusted in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
            pair["p_holm"] = adjusted
        return pairs

    def _sets(self, solved: Sequence[np.ndarray]) -> dict[str, Any]:
        """Which tasks are solved by whom; the vote does not count."""
        rows = [
            (one.row.label, found) for one, found in zip(self.judged, solved, strict=True) if one.row.method != LABEL
        ]
        table = np.array([found for _, found in rows], dtype=bool).reshape(len(rows), len(self.tasks))
        by = table.sum(axis=0)
        ids = np.array([task.task_id for task in self.tasks], dtype=object)
        return {
            "by_any": int((by > 0).sum()), "by_all": int((by == len(rows)).sum()) if rows else 0,
            "only": {label: ids[found & (by == 1)].tolist() for label, found in rows},
            "both": {
                first: {second: int((mine & theirs).sum()) for second, theirs in rows} for first, mine in rows
            },
        }  # fmt: skip


def _figures(
    one: Judged, bootstrap: PairedBootstrap, place: int, tasks: Sequence[Task],
    divided: dict[str, dict[str, list[int]]],
) -> dict[str, Any]:  # fmt: skip
    ranked = one.ranked
    scores, solved, lines = ranked.scores(), int(sum(ranked.solved())), list(one.lines.values())

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values)) if values else 0.0

    return {
        "transductive_tasks": sum(line["transductive"] for line in lines),
        "scores": {
            "answered": sum(ranked.answered), "solved": solved,
            "solved_95": list(wilson_interval(solved, len(tasks))),
            "score": float(scores.mean()), "score_95": list(bootstrap.interval(place)), "pass_at": ranked.pass_at(),
            "seconds_per_task": mean([line["seconds"] for line in lines]),
            "forward_passes_per_task": mean([line["forward_passes"] for line in lines]),
            "programs_per_task": mean([line["programs"] for line in lines]),
        },
        "calibration": calibration(one.lines, ranked, tasks),
        "groups": by_group(scores, divided),
    }  # fmt: skip


def compare_rows(
    header: Mapping[str, Any], rows: Sequence[Row], stored: Mapping[str, Lines], tasks: Sequence[Task]
) -> Comparison:
    """Judges stored answers.

    Args:
        stored: lines of each row's label; those of other tasks are not looked at.
    """
    ids = {task.task_id for task in tasks}
    lines_of = {
        row.label: {task_id: line for task_id, line in stored[row.label].items() if task_id in ids} for row in rows
    }
    scored = [row for row in rows if lines_of[row.label]]
    voters = [row for row in scored if not row.baseline]
    if len(voters) > 1:
        vote = _vote_row(voters)
        # By name: an order by score would let the right answers settle a tie.
        named = sorted(row.label for row in voters)
        lines_of[LABEL] = vote_over_methods([lines_of[label] for label in named], tasks)
        scored = [*scored, vote]
    truths = Truths(tasks)
    judged = [Judged(row, lines_of[row.label], rank_answers(lines_of[row.label], truths)) for row in scored]
    judged.sort(key=lambda one: -float(one.ranked.scores().mean()))
    return Comparison(header, tasks, judged, [row for row in rows if not lines_of[row.label]])


def _vote_row(voters: Sequence[Row]) -> Row:
    """The vote is trained on all that its voters were trained on."""
    undeclared = any(row.training_data is None for row in voters)
    data = sorted({spec for row in voters for spec in row.training_data or ()})
    return Row(
        LABEL, LABEL, parameters=sum(row.parameters for row in voters), training_data=None if undeclared else data,
        unchecked=sorted({spec for row in voters for spec in row.unchecked}),
        overlap_by_id=sorted({task_id for row in voters for task_id in row.overlap_by_id}),
        overlap_by_content=sorted({task_id for row in voters for task_id in row.overlap_by_content}),
    )  # fmt: skip


def read_results(path: Path) -> dict[str, Any]:
    """A results.json of this version.

    Raises:
        InputError: it is not there, or not one.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; a folder that eval compare wrote is needed")
    value = parse_json(read_bytes(path), str(path))
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        came = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise InputError(f"{path} must have schema {SCHEMA}; got {came}; run eval compare again")
    fault = best_match(Draft202012Validator(_schema()).iter_errors(value))
    if fault is not None:
        raise InputError(f"{path} is not as eval compare writes it: {fault.json_path}: {fault.message:.120}")
    return value


@cache
def _schema() -> Any:
    return json.loads((Path(__file__).parent / "results.schema.json").read_text(encoding="utf-8"))


def rows_of(results: Mapping[str, Any]) -> list[Row]:
    """The rows that a results.json declares, without the vote."""
    names = Row.__dataclass_fields__
    return [
        Row(**{name: value for name, value in method.items() if name in names})
        for method in results["methods"]
        if method["method"] != LABEL
    ]
