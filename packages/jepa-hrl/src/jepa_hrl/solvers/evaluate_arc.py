"""Evaluation of program search over a set of tasks, in several variants.

The result of every task is appended to a journal as soon as it is known; an interrupted evaluation resumes from it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from arc_core.files import write_text
from arc_core.progress import Progress
from arc_core.task import Task
from jepa_hrl.guidance.step_policy import StepPolicyLoader
from jepa_hrl.jepa.checkpoint import LoadedJepa
from jepa_hrl.jepa.distances import latent_distances
from jepa_hrl.search.engine import Limits, Outcome
from jepa_hrl.search.parallel import PrimitiveCosts, search_tasks
from jepa_hrl.search.results import Result, score_outcome, success_by_phase, summarize
from jepa_hrl.solvers.active_reasoner import ReasonerSolver
from jepa_hrl.solvers.active_reasoner import search_tasks as search_with_policy
from jepa_hrl.solvers.latent_guide import LatentGuide

Results = dict[str, list[Result]]  # of each variant, in the tasks' order


@dataclass(frozen=True)
class Variant:
    """A way to search. By default it is the plain search at fixed costs.

    Attributes:
        costs: costs of primitives for each task; None for their fixed costs.
        make_heuristic: returns the heuristic that delays the expansion of values, for each task; None for none.
        make_policy: returns the policy that leads to long programs, for each task; None for none.
        reasoner: active reasoner whose policy searches instead; None for the program search.
    """

    costs: Sequence[PrimitiveCosts] | None = None
    make_heuristic: LatentGuide | None = None
    make_policy: StepPolicyLoader | None = None
    reasoner: ReasonerSolver | None = None

    def search(
        self, tasks: Sequence[Task], indices: Sequence[int], limits: Limits, workers: int
    ) -> Iterator[tuple[int, Outcome]]:
        """Searches tasks and yields each one's index in `indices` and its outcome, as soon as it is done.

        Args:
            tasks: all tasks.
            indices: of the tasks to search.
            limits: of each task's search.
            workers: processes; -1 for one a core.
        """
        selected = [tasks[index] for index in indices]
        if self.reasoner is not None:
            guided_limits = self.reasoner.clip_limits(limits)
            return search_with_policy(self.reasoner.agent, selected, self.reasoner.env, guided_limits, workers)
        costs = None if self.costs is None else [self.costs[index] for index in indices]
        return search_tasks(selected, limits, costs, workers, self.make_heuristic, self.make_policy)


def read_journal(path: Path, settings: Mapping[str, object]) -> dict[tuple[str, str], Result]:
    """Reads the results of an interrupted evaluation, by variant and task.

    Returns:
        The results; none if there is no journal, or if it is of other settings. A last line that was cut off is
        ignored.
    """
    if not path.is_file():
        return {}
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    if not lines or json.loads(lines[0]) != settings:
        return {}
    values = map(json.loads, lines[1:])
    return {(value.pop("variant"), value["task_id"]): Result(**value) for value in values}


def _write_journal(path: Path, settings: Mapping[str, object], finished: Mapping[tuple[str, str], Result]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"variant": variant} | asdict(result) for (variant, _), result in finished.items()]
    write_text(path, "".join(json.dumps(line) + "\n" for line in [settings, *lines]))


def evaluate_variants(
    tasks: Sequence[Task], variants: Mapping[str, Variant], limits: Limits, settings: Mapping[str, object],
    journal: Path, workers: int, console: Console,
) -> Results:  # fmt: skip
    """Searches every task with every variant, and scores the outcomes.

    Args:
        tasks: tasks with their test outputs.
        variants: ways to search, by name.
        limits: of each task's search.
        settings: what the results depend on; a journal of other settings is discarded.
        journal: file of finished results, which is read, rewritten and appended to.
        workers: processes; -1 for one a core.
        console: for progress.
    """
    finished = read_journal(journal, settings)
    _write_journal(journal, settings, finished)
    return {
        name: _evaluate_variant(name, tasks, variant, limits, journal, finished, workers, console)
        for name, variant in variants.items()
    }


def _evaluate_variant(
    name: str, tasks: Sequence[Task], variant: Variant, limits: Limits, journal: Path,
    finished: Mapping[tuple[str, str], Result], workers: int, console: Console,
) -> list[Result]:  # fmt: skip
    """Returns every task's result, in the tasks' order; new ones are appended to the journal as they come."""
    results = {task.task_id: finished[name, task.task_id] for task in tasks if (name, task.task_id) in finished}
    waiting = [index for index, task in enumerate(tasks) if task.task_id not in results]
    with Progress(console, len(tasks), name, len(results)) as progress, journal.open("a", encoding="utf-8") as lines:
        if results:
            progress.say(f"{name}: {len(results)} of {len(tasks)} tasks were solved before")
        for index, outcome in variant.search(tasks, waiting, limits, workers):
            result = score_outcome(tasks[waiting[index]], outcome)
            lines.write(json.dumps({"variant": name} | asdict(result)) + "\n")
            lines.flush()
            results[result.task_id] = result
            progress.update(len(results), f"{sum(r.solved for r in results.values())} solved")
    return [results[task.task_id] for task in tasks]


def read_metadata(manifest: Path | None) -> tuple[dict[str, str], dict[str, str]]:
    """Reads the phases and the programs of synthetic tasks, each by task id; none without a manifest."""
    if manifest is None:
        return {}, {}
    values = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines() if line.strip()]
    by_task = {value["task_id"]: value.get("metadata", {}) for value in values}
    phases = {task_id: str(metadata["phase"]) for task_id, metadata in by_task.items() if "phase" in metadata}
    programs = {task_id: str(metadata["program"]) for task_id, metadata in by_task.items() if "program" in metadata}
    return phases, programs


def make_report(
    results: Results, settings: Mapping[str, object], phases: Mapping[str, str], programs: Mapping[str, str],
    commit: str | None,
) -> dict[str, object]:  # fmt: skip
    """Returns what evaluate-arc writes: figures of each variant, success by phase, and every result.

    Args:
        results: of each variant.
        settings: what the results depend on.
        phases, programs: of synthetic tasks, by task id; see `read_metadata`.
        commit: of the code; None outside a repository.
    """
    return {
        "total_tasks": len(next(iter(results.values()))),
        "variants": {name: summarize(one, programs) for name, one in results.items()},
        "by_phase": {name: success_by_phase(one, phases) for name, one in results.items()},
        "settings": settings,
        "commit": commit,
        "tasks": {name: [asdict(result) for result in one] for name, one in results.items()},
    }


def summarize_latent_distances(
    jepa: LoadedJepa, tasks: Sequence[Task], results: Sequence[Result]
) -> dict[str, float | None]:
    """Returns how far the JEPA's predicted outputs are from the actual ones, on solved and on failed tasks.

    Args:
        jepa: model that predicts the latents of test outputs.
        tasks: tasks with their test outputs.
        results: of one variant, in the tasks' order.
    Returns:
        Mean distances, and their correlation with success; None where there is no such task.
    """
    distances, solved = latent_distances(jepa, tasks), np.array([result.solved for result in results])
    both = solved.any() and not solved.all()
    return {
        "mean_solved": float(distances[solved].mean()) if solved.any() else None,
        "mean_failed": float(distances[~solved].mean()) if not solved.all() else None,
        "correlation": float(np.corrcoef(distances, solved)[0, 1]) if both else None,
    }
