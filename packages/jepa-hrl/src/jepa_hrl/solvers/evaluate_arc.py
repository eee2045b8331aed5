"""`evaluate-arc`: program search over a set of tasks, with and without guidance, as JSON.

Every task's outcome is written as it comes to a file beside the output; an interrupted evaluation goes on from there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from arc_core.progress import Progress
from arc_core.task import Task
from jepa_hrl.guidance.step_policy import StepPolicyLoader
from jepa_hrl.jepa.checkpoint import LoadedJepa
from jepa_hrl.jepa.distances import latent_distances
from jepa_hrl.search.engine import Limits, Outcome
from jepa_hrl.search.parallel import PrimitiveCosts, search_tasks
from jepa_hrl.search.results import Result, score_outcome
from jepa_hrl.solvers.active_reasoner import ReasonerSolver
from jepa_hrl.solvers.active_reasoner import search_tasks as search_with_policy
from jepa_hrl.solvers.latent_guide import LatentGuide


@dataclass(frozen=True)
class Variant:
    """A way to search.

    Attributes:
        bits: costs of primitives for each task; their own if None.
        guide: what puts values off; nothing if None.
        leader: what leads to long programs.
        reasoner: whose policy searches instead.
    """

    bits: Sequence[PrimitiveCosts] | None = None
    guide: LatentGuide | None = None
    leader: StepPolicyLoader | None = None
    reasoner: ReasonerSolver | None = None

    def search(
        self, tasks: Sequence[Task], places: Sequence[int], limits: Limits, workers: int
    ) -> Iterator[tuple[int, Outcome]]:
        """Outcomes of tasks, which stand at these places among all."""
        if self.reasoner is not None:
            own = self.reasoner.within(limits)
            return search_with_policy(self.reasoner.agent, tasks, self.reasoner.env, own, workers)
        costs = None if self.bits is None else [self.bits[place] for place in places]
        return search_tasks(tasks, limits, costs, workers, self.guide, self.leader)


def read_journal(path: Path, settings: Mapping[str, object]) -> dict[tuple[str, str], Result]:
    """Results by variant and task of an interrupted evaluation with the same settings."""
    if not path.is_file():
        return {}
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    if not lines or json.loads(lines[0]) != settings:
        return {}
    values = map(json.loads, lines[1:])
    return {(value.pop("variant"), value["task_id"]): Result(**value) for value in values}


def evaluate_variant(
    name: str, tasks: Sequence[Task], variant: Variant, limits: Limits, journal: Path,
    known: Mapping[tuple[str, str], Result], workers: int, console: Console,
) -> list[Result]:  # fmt: skip
    """Every task's result, in the tasks' order; appended to the journal as they come."""
    done = {task.task_id: known[name, task.task_id] for task in tasks if (name, task.task_id) in known}
    places = [place for place, task in enumerate(tasks) if task.task_id not in done]
    waiting = [tasks[place] for place in places]
    with Progress(console, len(tasks), name, len(done)) as progress, journal.open("a", encoding="utf-8") as lines:
        if done:
            progress.say(f"{name}: {len(done)} of {len(tasks)} tasks were solved before")
        for number, outcome in variant.search(waiting, places, limits, workers):
            result = score_outcome(waiting[number], outcome)
            lines.write(json.dumps({"variant": name} | asdict(result)) + "\n")
            lines.flush()
            done[result.task_id] = result
            progress.update(len(done), f"{sum(r.solved for r in done.values())} solved")
    return [done[task.task_id] for task in tasks]


def read_metadata(manifest: Path | None) -> tuple[dict[str, str], dict[str, str]]:
    """Phases and programs of synthetic tasks by id."""
    if manifest is None:
        return {}, {}
    values = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines() if line.strip()]
    found = {value["task_id"]: value.get("metadata", {}) for value in values}
    phases = {task_id: str(metadata["phase"]) for task_id, metadata in found.items() if "phase" in metadata}
    return phases, {task_id: str(metadata["program"]) for task_id, metadata in found.items() if "program" in metadata}


def summarize_latent_distances(
    jepa: LoadedJepa, tasks: Sequence[Task], results: Sequence[Result]
) -> dict[str, float | None]:
    """How far predicted outputs lie from actual ones, where the first variant solved and failed."""
    distances, solved = latent_distances(jepa, tasks), np.array([result.solved for result in results])
    both = solved.any() and not solved.all()
    return {
        "mean_solved": float(distances[solved].mean()) if solved.any() else None,
        "mean_failed": float(distances[~solved].mean()) if not solved.all() else None,
        "correlation": float(np.corrcoef(distances, solved)[0, 1]) if both else None,
    }
