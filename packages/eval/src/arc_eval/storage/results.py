"""The content of results.json: declarations, scores and tests. results.schema.json explains every key."""

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
from arc_eval.methods import MethodInfo
from arc_eval.scoring.breakdown import Groups, compute_calibration, group_tasks, score_groups
from arc_eval.scoring.ensemble import VOTE, vote_over_methods
from arc_eval.scoring.ranks import AnswerKey, AnswerRanks, rank_answers
from arc_eval.scoring.statistics import PairedBootstrap, holm_adjust, mcnemar_p_value, wilson_interval
from arc_eval.storage.records import Records

SCHEMA = 2


@dataclass(frozen=True)
class ScoredMethod:
    """A method with its answers to the scored tasks.

    Attributes:
        info: what is known about the method.
        records: its answers by task id.
        ranks: the ranks of the right answers among them.
    """

    info: MethodInfo
    records: Records
    ranks: AnswerRanks


@dataclass(frozen=True)
class Comparison:
    """Everything that tables, results.json and the report show.

    Attributes:
        header: the protocol, the time and machine of the comparison, and the excluded tasks.
        tasks: the tasks that are scored.
        scored: methods that answered at least one task, best score first, with the vote over methods.
        unscored: methods without an answer, with the reason in their note.
    """

    header: Mapping[str, Any]
    tasks: Sequence[Task]
    scored: Sequence[ScoredMethod]
    unscored: Sequence[MethodInfo] = field(default_factory=tuple)

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of results.json, computed once for everything that shows it."""
        solved = [np.array(method.ranks.is_solved()) for method in self.scored]
        bootstrap = self._bootstrap()
        groups = group_tasks(self.tasks)
        methods = [
            asdict(method.info) | _compute_figures(method, bootstrap, index, self.tasks, groups)
            for index, method in enumerate(self.scored)
        ]
        return {
            "schema": SCHEMA, **self.header, "tasks_scored": len(self.tasks),
            "methods": methods + [asdict(info) | {"scores": None} for info in self.unscored],
            "pairs": self._pairs(bootstrap, solved), "solved_sets": self._count_solved_sets(solved),
        }  # fmt: skip

    def _bootstrap(self) -> PairedBootstrap:
        scores = np.array([method.ranks.scores() for method in self.scored])
        return PairedBootstrap(scores.reshape(len(self.scored), len(self.tasks)).T)

    def _pairs(self, bootstrap: PairedBootstrap, solved: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Tests every two methods, the better one first; the vote is made of the others and not tested."""
        indices = [index for index, method in enumerate(self.scored) if method.info.method != VOTE]
        scores = [method.ranks.scores() for method in self.scored]
        pairs: list[dict[str, Any]] = []
        for a, b in combinations(indices, 2):
            discordant = int((solved[a] & ~solved[b]).sum()), int((solved[b] & ~solved[a]).sum())
            pairs.append({
                "first": self.scored[a].info.label, "second": self.scored[b].info.label,
                "difference": float((scores[a] - scores[b]).mean()),
                "difference_95": list(bootstrap.difference(a, b)),
                "only_first": discordant[0], "only_second": discordant[1], "p": mcnemar_p_value(*discordant),
            })  # fmt: skip
        for pair, adjusted in zip(pairs, holm_adjust([pair["p"] for pair in pairs]), strict=True):
            pair["p_holm"] = adjusted
        return pairs

    def _count_solved_sets(self, solved: Sequence[np.ndarray]) -> dict[str, Any]:
        """Counts tasks by the methods that solve them, the vote left out."""
        rows = [
            (method.info.label, is_solved)
            for method, is_solved in zip(self.scored, solved, strict=True)
            if method.info.method != VOTE
        ]
        table = np.array([is_solved for _, is_solved in rows], dtype=bool).reshape(len(rows), len(self.tasks))
        solvers = table.sum(axis=0)
        ids = np.array([task.task_id for task in self.tasks], dtype=object)
        return {
            "by_any": int((solvers > 0).sum()), "by_all": int((solvers == len(rows)).sum()) if rows else 0,
            "only": {label: ids[is_solved & (solvers == 1)].tolist() for label, is_solved in rows},
            "both": {
                first: {second: int((mine & theirs).sum()) for second, theirs in rows} for first, mine in rows
            },
        }  # fmt: skip


def _compute_figures(
    method: ScoredMethod, bootstrap: PairedBootstrap, index: int, tasks: Sequence[Task], groups: Groups
) -> dict[str, Any]:
    """Computes the figures of one method in results.json; `index` is its column in the bootstrap."""
    ranks = method.ranks
    scores, solved, records = ranks.scores(), int(sum(ranks.is_solved())), list(method.records.values())

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values)) if values else 0.0

    return {
        "transductive_tasks": sum(record["transductive"] for record in records),
        "scores": {
            "answered": sum(ranks.answered), "solved": solved,
            "solved_95": list(wilson_interval(solved, len(tasks))),
            "score": float(scores.mean()), "score_95": list(bootstrap.interval(index)), "pass_at": ranks.pass_at(),
            "seconds_per_task": mean([record["seconds"] for record in records]),
            "forward_passes_per_task": mean([record["forward_passes"] for record in records]),
            "programs_per_task": mean([record["programs"] for record in records]),
        },
        "calibration": compute_calibration(method.records, ranks, tasks),
        "groups": score_groups(scores, groups),
    }  # fmt: skip


def compare_methods(
    header: Mapping[str, Any], methods: Sequence[MethodInfo], stored: Mapping[str, Records], tasks: Sequence[Task]
) -> Comparison:
    """Scores stored answers, adds the vote over methods, and orders methods by score.

    Args:
        header: see `Comparison.header`.
        methods: the methods to compare.
        stored: the records of each method by its label; those of other tasks are ignored.
        tasks: the tasks to score, with their test outputs.
    """
    ids = {task.task_id for task in tasks}
    records = {
        info.label: {task_id: record for task_id, record in stored[info.label].items() if task_id in ids}
        for info in methods
    }
    answering = [info for info in methods if records[info.label]]
    voters = [info for info in answering if not info.baseline]
    if len(voters) > 1:
        vote = _describe_vote(voters)
        # By name: an order by score would let the right answers settle a tie.
        labels = sorted(info.label for info in voters)
        records[VOTE] = vote_over_methods([records[label] for label in labels], tasks)
        answering = [*answering, vote]
    answer_key = AnswerKey(tasks)
    scored = [
        ScoredMethod(info, records[info.label], rank_answers(records[info.label], answer_key)) for info in answering
    ]
    scored.sort(key=lambda method: -float(method.ranks.scores().mean()))
    return Comparison(header, tasks, scored, [info for info in methods if not records[info.label]])


def _describe_vote(voters: Sequence[MethodInfo]) -> MethodInfo:
    """Returns the vote's declaration: it is trained on everything that its voters were trained on."""
    undeclared = any(info.training_data is None for info in voters)
    data = sorted({spec for info in voters for spec in info.training_data or ()})
    return MethodInfo(
        VOTE, VOTE, parameters=sum(info.parameters for info in voters), training_data=None if undeclared else data,
        unchecked=sorted({spec for info in voters for spec in info.unchecked}),
        overlap_by_id=sorted({task_id for info in voters for task_id in info.overlap_by_id}),
        overlap_by_content=sorted({task_id for info in voters for task_id in info.overlap_by_content}),
    )  # fmt: skip


def read_results(path: Path) -> dict[str, Any]:
    """Reads a results.json of this version.

    Raises:
        InputError: the file does not exist, or does not keep to the schema.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; a folder that eval compare wrote is needed")
    value = parse_json(read_bytes(path), str(path))
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        came = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise InputError(f"{path} must have schema {SCHEMA}; got {came}; run eval compare again")
    fault = best_match(Draft202012Validator(_load_schema()).iter_errors(value))
    if fault is not None:
        raise InputError(f"{path} is not as eval compare writes it: {fault.json_path}: {fault.message:.120}")
    return value


@cache
def _load_schema() -> Any:
    return json.loads((Path(__file__).parent / "results.schema.json").read_text(encoding="utf-8"))


def parse_methods(results: Mapping[str, Any]) -> list[MethodInfo]:
    """Returns the methods that a results.json declares, without the vote."""
    names = MethodInfo.__dataclass_fields__
    return [
        MethodInfo(**{name: value for name, value in method.items() if name in names})
        for method in results["methods"]
        if method["method"] != VOTE
    ]
