"""Runs the real commands of one method on the pretended GPU: train, resume, solve. A process of its own for each flow.

    python -m tests.gpu.flows NAME PRECISION FOLDER [PRECISION OF THE RESUMED RUN]

writes FOLDER/report.json. A process of its own is used since modules that are first imported while torch is patched
would keep the patched parts.
"""

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import cast
from unittest.mock import patch

import torch

from arc_core.checkpoint import list_checkpoints, load_checkpoint
from arc_core.datasets import load_tasks
from arc_core.settings import Precision
from arc_core.solver import Budget, solver_entry
from arc_core.testing.activity import Activity, record_activity
from arc_core.testing.pretend_gpu import pretend_gpu
from tests.gpu.small_recipes import SmallData, write_data, write_recipe

BUDGET = Budget(candidates=2, programs_per_task=300, dihedral_views=2, color_views=1, seed=0, device="cuda")


@dataclass(frozen=True)
class Method:
    """Where the parts of a method are.

    Attributes:
        command: module and function of its command line.
        trainer: module and class of its trainer.
        step: the method of the trainer that takes a step.
        solver: name of the solver that opens its checkpoints; empty if there is none.
    """

    command: tuple[str, str]
    trainer: tuple[str, str]
    step: str = "training_step"
    solver: str = ""


METHODS = {
    "hrm": Method(("hrm.cli", "main"), ("hrm.trainer", "Trainer"), solver="hrm"),
    "rlan": Method(("rlan.cli", "main"), ("rlan.trainer", "Trainer"), solver="rlan"),
    "jepa": Method(("jepa_hrl.jepa.cli", "train_jepa"), ("jepa_hrl.jepa.trainer", "Trainer"), solver="jepa"),
    "program-jepa": Method(
        ("jepa_hrl.world_model.cli", "train_program_conditioned_jepa"), ("jepa_hrl.world_model.trainer", "Trainer")
    ),
    "active-reasoner-bc": Method(
        ("jepa_hrl.rl.imitation.cli", "main"), ("jepa_hrl.rl.imitation.trainer", "CloningTrainer")
    ),
    "active-reasoner": Method(
        ("jepa_hrl.rl.ppo.cli", "main"), ("jepa_hrl.rl.ppo.trainer", "Trainer"), "iteration", "active-reasoner"
    ),
}  # fmt: skip


def method_of(name: str) -> str:
    """Returns the method of a small recipe."""
    if name in ("trm", "transformer"):
        return "hrm"
    return name if name in METHODS else name.partition("-")[0]


@dataclass
class Report:
    """What the test reads.

    Attributes:
        train_status, resume_status: exit status of the command, None if it was not run.
        trained_steps, resumed_steps: steps of the checkpoints after training, and after the resumption.
        differences: parts of the last checkpoint that the resumption has not restored bit for bit.
        has_summary: whether both runs of the command have written summary.json.
        steps: what each training step asked of the GPU, in order.
        between: what was asked of it between two steps: where metrics are read, validation, saving.
        answers: number of tasks that the solver answered, and the activity of that.
    """

    train_status: int | None = None
    resume_status: int | None = None
    trained_steps: list[int] = field(default_factory=list)
    resumed_steps: list[int] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    has_summary: bool = False
    steps: list[Activity] = field(default_factory=list)
    between: list[Activity] = field(default_factory=list)
    answers: int = 0


@contextmanager
def record_steps(trainer: type, name: str, report: Report) -> Iterator[None]:
    """Records what every step of a trainer asks of the GPU, and what is asked between two steps."""
    step = getattr(trainer, name)
    gap = ExitStack()

    def recorded_step(self: object) -> object:
        gap.close()
        with record_activity() as activity:
            result = step(self)
        report.steps.append(activity)
        report.between.append(gap.enter_context(record_activity()))
        return result

    with patch.object(trainer, name, recorded_step), gap:
        yield


def run_flow(
    name: str, precision: Precision, folder: Path, data: SmallData, jepa: Path | None = None,
    resume_precision: Precision | None = None,
) -> Report:  # fmt: skip
    """Trains a small recipe, removes its last checkpoint, resumes, and solves with the result.

    Args:
        name: of the recipe.
        precision: to train in.
        folder: where the recipe and the run go.
        data: what to train on.
        jepa: run of program-jepa that the active reasoner needs.
        resume_precision: to resume in; None for the same.
    """
    method = METHODS[method_of(name)]
    command = cast(Callable[[Sequence[str]], int], _load(method.command))
    trainer = cast(type, _load(method.trainer))
    recipe, run = str(write_recipe(folder / f"{name}.yaml", name, data, precision, jepa)), folder / name
    report = Report()
    with record_steps(trainer, method.step, report):
        report.train_status = command(["--config", recipe, "--run-dir", str(run)])
    summary, checkpoints = run / "summary.json", list_checkpoints(run / "checkpoints")
    report.trained_steps = _steps(checkpoints)
    if report.train_status or len(checkpoints) < 2:
        return report
    report.has_summary = summary.exists()
    summary.unlink(missing_ok=True)
    last = load_checkpoint(checkpoints[0], method_of(name))
    checkpoints[0].unlink()
    override = [f"--device.dtype={resume_precision}"] if resume_precision else []
    report.resume_status = command(["--config", recipe, "--resume", str(run), *override])
    report.has_summary &= summary.exists()
    checkpoints = list_checkpoints(run / "checkpoints")
    report.resumed_steps = _steps(checkpoints)
    resumed = load_checkpoint(checkpoints[0], method_of(name))
    report.differences = list(differing_parts(dataclasses.asdict(last), dataclasses.asdict(resumed)))
    if method.solver:
        report.answers = solve(method.solver, run, data)
    return report


def solve(solver: str, run: Path, data: SmallData) -> int:
    """Solves new and learnt tasks with a run's best checkpoint on the pretended GPU; returns the number of answers."""
    tasks = [*load_tasks(f"dir:{data.new_tasks}"), *load_tasks(f"dir:{data.tasks}")[:2]]
    opened = solver_entry(solver).open(run, "cuda")
    return len(list(opened.solver.solve([task.without_answers() for task in tasks], BUDGET)))


def differing_parts(first: object, second: object, path: str = "") -> Iterator[str]:
    """Yields the paths at which two nested values, of plain values and tensors, are not equal."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in first.keys() | second.keys():
            yield from differing_parts(first.get(key), second.get(key), f"{path}/{key}")
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        for index, parts in enumerate(zip(first, second, strict=True)):
            yield from differing_parts(*parts, f"{path}/{index}")
    elif isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if not torch.equal(first, second):
            yield path
    elif first != second and not (first != first and second != second):  # NaN equals itself here
        yield path


def _load(place: tuple[str, str]) -> object:
    return getattr(import_module(place[0]), place[1])


def _steps(checkpoints: Sequence[Path]) -> list[int]:
    return [int(path.stem.removeprefix("step_")) for path in reversed(checkpoints)]


def run_program_jepa(precision: Precision, folder: Path, data: SmallData) -> Report:
    """Writes the triples of program-jepa, which is work of the CPU, and runs its flow."""
    prepare = cast(Callable[[Sequence[str]], int], _load(("jepa_hrl.world_model.cli", "prepare_program_triples")))
    status = prepare(
        ["--manifest", str(data.curriculum), "--output", str(data.triples), "--explored", "4", "--workers", "1"]
    )
    assert status == 0
    return run_flow("program-jepa", precision, folder, data)


def run_search_prior(folder: Path, data: SmallData) -> Report:
    """Trains the search prior and the step policy, which is work of the CPU also where there is a GPU, and solves."""
    train, run = cast(Callable[[Sequence[str]], int], _load(("jepa_hrl.guidance.cli", "main"))), folder / "search-prior"
    report = Report()
    with record_activity() as activity:
        report.train_status = train(
            ["--tasks", str(data.curriculum), "--steps", "3", "--batch-size", "8", "--practice", "40", "--workers", "1",
             "--run-dir", str(run)]
        )  # fmt: skip
        report.answers = solve("dsl-guided", run, data)
    report.steps.append(activity)
    return report


def main(name: str, precision: Precision, folder: Path, resume_precision: Precision | None = None) -> None:
    """Runs the flow of a name and writes its reports, by recipe, to report.json.

    Args:
        name: of a recipe, "search-prior", or "reasoner" for the world model, cloning and PPO, one after the other.
        precision: to train in.
        folder: to write to.
        resume_precision: see `run_flow`.
    """
    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    data = write_data(folder / "data")
    reports: dict[str, Report] = {}
    with pretend_gpu():
        if name == "search-prior":
            reports[name] = run_search_prior(folder, data)
        elif name == "reasoner":
            reports["program-jepa"] = run_program_jepa(precision, folder, data)
            for stage in ("active-reasoner-bc", "active-reasoner"):
                reports[stage] = run_flow(stage, precision, folder, data, folder / "program-jepa")
        else:
            reports[name] = run_flow(name, precision, folder, data, resume_precision=resume_precision)
    write_reports(folder / "report.json", reports)


def write_reports(path: Path, reports: Mapping[str, Report]) -> None:
    """Writes reports by recipe."""
    path.write_text(json.dumps(dict(reports), default=vars))


def read_reports(path: Path) -> dict[str, Report]:
    """Reads what `write_reports` wrote."""
    reports = {}
    for name, values in json.loads(path.read_text()).items():
        for key in ("steps", "between"):
            values[key] = [Activity(**{kind: Counter(counts) for kind, counts in part.items()}) for part in values[key]]
        reports[name] = Report(**values)
    return reports


if __name__ == "__main__":
    flow, *precisions = sys.argv[1], sys.argv[2], *sys.argv[4:]
    main(flow, cast(Precision, precisions[0]), Path(sys.argv[3]), *cast(list[Precision], precisions[1:]))
