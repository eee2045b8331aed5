"""Measures how time and memory grow with the number of tasks, the canvas, the views, the batch and the program length.

    uv run tools/bench_growth.py --out docs/growth.png        about ten minutes on two cores

Each point is measured in a process of its own with one thread, so that its peak memory is its own. Times are medians of
three runs. The tasks of a series are of one kind, so that only the quantity on the x axis grows.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from arc_core.config import workspace_folder
from arc_core.files import write_json
from arc_core.solver import Budget, Candidate, TaskPrediction
from arc_core.task import Pair, Task
from arc_core.tensors import TaskTensors
from arc_eval.compare import make_header
from arc_eval.evaluation_set import EvaluationSet
from arc_eval.methods import MethodInfo
from arc_eval.protocol import make_protocol
from arc_eval.storage.records import prediction_record
from arc_eval.storage.results import compare_methods
from hrm.config import ModelConfig as HrmModel
from hrm.data.batches import build_batch, choose_canvas
from hrm.data.identities import Identities, make_examples
from hrm.losses import segment_losses
from hrm.model.reasoner import Reasoner
from jepa_hrl.search.engine import Limits
from jepa_hrl.search.parallel import search_tasks
from jepa_hrl.synthesis.config import GridConfig
from jepa_hrl.synthesis.dataset import build_plans, manifest_line, read_config
from jepa_hrl.synthesis.generator import PhasePlan, make_practice_task, make_task
from rlan.config import DataConfig, ModelConfig, RlanConfig, TrainingConfig
from rlan.data.queries import QuerySampler
from rlan.losses.objective import build_training_batch, total_loss
from rlan.model.rlan import Rlan
from rlan.solver import RlanSolver

THREADS = {"OMP_NUM_THREADS": "1"}
PILOT = workspace_folder() / "configs" / "data" / "pilot_curriculum.yaml"


def make_synthetic_tasks(count: int, length: int = 2, side: int = 8) -> list[Task]:
    """Makes tasks of the pilot curriculum's steps.

    Args:
        count: number of tasks.
        length: steps of each program.
        side: height and width of each input, in cells.
    """
    phase = build_plans(read_config(PILOT))[-1][0]
    plan = PhasePlan("growth", phase.steps, (length,), (1.0,), GridConfig(side, side), (3, 3))
    return [make_practice_task(plan, index, 0).task for index in range(count)]


def make_square_tasks(count: int, side: int) -> list[Task]:
    """Makes tasks whose grids are random squares of one side."""
    rng = np.random.default_rng(0)

    def pair() -> Pair:
        return Pair(*(rng.integers(0, 10, (side, side)).astype(np.uint8) for _ in range(2)))

    return [Task(f"t{n}", tuple(pair() for _ in range(3)), (pair(),)) for n in range(count)]


def prepare_scoring(count: int) -> Callable[[], object]:
    """Prepares the comparison of two methods' stored answers to `count` tasks, with every interval."""
    tasks = make_square_tasks(count, 10)
    infos = [MethodInfo("one", "one"), MethodInfo("two", "two")]
    answers = {
        info.label: {
            task.task_id: prediction_record(
                info.label, "none",
                TaskPrediction(task.task_id, ((Candidate(task.test[0].input, 1, 0.5, ""),),), 1.0),
            )
            for task in tasks
        }
        for info in infos
    }  # fmt: skip
    header = make_header(make_protocol(EvaluationSet("manifest:none", None, tasks), Budget()), [], False, "cpu")
    return lambda: compare_methods(header, infos, answers, tasks).results


def prepare_searching(count: int) -> Callable[[], object]:
    """Prepares searches of 2,000 programs for each of `count` tasks."""
    base, limits = make_synthetic_tasks(10), Limits(seconds=None, programs=2_000)
    tasks = [replace(base[n % 10], task_id=f"t{n}") for n in range(count)]
    return lambda: list(search_tasks(tasks, limits, None, 1))


def prepare_generating(count: int) -> Callable[[], object]:
    """Prepares the generation of `count` accepted tasks of the pilot curriculum's last phase."""
    phase = build_plans(read_config(PILOT))[-1][0]
    return lambda: [manifest_line(make_task(phase, index, 0)) for index in range(count)]


def prepare_rlan(side: int, batch: int) -> Callable[[], object]:
    """Prepares a training step of RLAN on grids of one side."""
    tensors = TaskTensors.from_tasks(make_square_tasks(batch, side), torch.device("cpu"))
    sampler = QuerySampler(tensors, DataConfig(max_demonstrations=3, samples_per_task=1), batch, seed=0)
    model = Rlan(ModelConfig(96, 3, num_heads=3, context_layers=1))
    _, rows = sampler.plan.batch(0)
    inputs, targets = build_training_batch(tensors, sampler.epoch_queries(0).select(rows).trim_padding())

    def run() -> None:
        losses = total_loss(model(inputs), targets, inputs.answer_extent, inputs.query_size, TrainingConfig())
        losses.total.backward()
        model.zero_grad()

    return run


def prepare_hrm(side: int, batch: int) -> Callable[[], object]:
    """Prepares a segment of HRM, forward and backward, on the bucketed canvas of grids of one side."""
    tasks = make_square_tasks(batch, side)
    tensors = TaskTensors.from_tasks(tasks)
    identities = Identities.from_task_ids([task.task_id for task in tasks], 0, 0)
    config = HrmModel(hidden_size=128, num_heads=4, H_layers=2, L_layers=2, puzzle_emb_ndim=128)
    model = Reasoner(config)
    examples, _ = make_examples(tensors, identities, 0)
    canvas = int(choose_canvas(examples.sides)[0])
    work = build_batch(tensors, identities, examples.select(np.arange(batch)), canvas, config.prefix_tokens, None)

    def run() -> None:
        puzzles = torch.zeros(batch, config.puzzle_emb_ndim, requires_grad=True)
        _, answer = model(model.initial_state(*work.tokens.shape), work.tokens, puzzles, work.positions)
        segment_losses(answer, work.labels, None, "stablemax_cross_entropy").total.backward()
        model.zero_grad()

    return run


def prepare_solving(views: int) -> Callable[[], object]:
    """Prepares RLAN's solutions of four tasks with a vote over `views` views."""
    model = Rlan(ModelConfig(96, 3, num_heads=3, context_layers=1)).eval()
    solver = RlanSolver(model, RlanConfig(), torch.device("cpu"))
    tasks = [task.without_answers() for task in make_square_tasks(4, 12)]
    dihedral = min(views, 8)
    return lambda: list(solver.solve(tasks, Budget(dihedral_views=dihedral, color_views=views // dihedral)))


def prepare_full_search(length: int) -> Callable[[], object]:
    """Prepares full searches for ten programs of `length` steps; the work returns the number of programs tested."""
    tasks, limits = make_synthetic_tasks(10, length), Limits(seconds=None, programs=20_000)
    return lambda: sum(outcome.tested for _, outcome in search_tasks(tasks, limits, None, 1))


@dataclass(frozen=True)
class Series:
    """A series of measurements over one growing quantity.

    Attributes:
        title: of the plot.
        quantity: the name of the quantity on the x axis.
        sizes: the values of the quantity that are measured.
        unit: the thing for which the plot shows the time, such as "task"; "" for the time of the whole work.
        prepare: returns the work of a size, which is then timed.
    """

    title: str
    quantity: str
    sizes: tuple[int, ...]
    unit: str
    prepare: Callable[[int], Callable[[], object]]


SERIES = {
    "scoring": Series("comparing stored answers", "tasks", (100, 200, 400, 800, 1600), "task", prepare_scoring),
    "searching": Series("search, 2,000 programs a task", "tasks", (10, 20, 40, 80), "task", prepare_searching),
    "generating": Series("accepted synthetic tasks", "tasks", (25, 50, 100, 200), "task", prepare_generating),
    "rlan-canvas": Series("RLAN training step, batch 8", "side", (6, 10, 14, 20, 30), "", lambda n: prepare_rlan(n, 8)),
    "hrm-canvas": Series("HRM segment, batch 8", "side", (6, 10, 14, 20, 29), "", lambda n: prepare_hrm(n, 8)),
    "rlan-batch": Series("RLAN step, side 12", "batch", (2, 4, 8, 16, 32), "sample", lambda n: prepare_rlan(12, n)),
    "hrm-batch": Series("HRM segment, side 12", "batch", (2, 4, 8, 16, 32), "sample", lambda n: prepare_hrm(12, n)),
    "views": Series("RLAN's votes over views, 4 tasks", "views", (1, 2, 4, 8, 16, 32), "view", prepare_solving),
    "programs": Series("search to the end, 10 tasks", "steps", (1, 2, 3, 4), "program", prepare_full_search),
}  # fmt: skip


def measure(name: str, size: int) -> dict[str, float]:
    """Measures one point in this process: seconds, and MiB beyond what the process had before."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    series = SERIES[name]
    if size != series.sizes[0]:
        series.prepare(series.sizes[0])()  # libraries take memory when they are first used
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work = series.prepare(size)
    seconds, result = [], None
    for _ in range(3):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    count = result if series.unit == "program" else size if series.unit else 1
    assert isinstance(count, int)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"size": size, "seconds": statistics.median(seconds), "count": count, "mebibytes": growth}


def draw(measurements: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Plots the time per unit and the memory against the size, one panel for each series."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained", dpi=100)
    for axis, (name, series) in zip(figure.subplots(3, 3).flat, SERIES.items(), strict=True):
        points = measurements.get(name, [])
        if not points:
            continue
        sizes = [point["size"] for point in points]
        each = [1000 * point["seconds"] / point["count"] for point in points]
        label = f"ms a {series.unit}" if series.unit else "ms"
        axis.plot(sizes, each, "o-", color="#1f5fa8", label=label)
        axis.set_ylim(0, 1.25 * max(each))
        axis.set_title(series.title, fontsize=10)
        axis.set_xlabel(series.quantity)
        axis.set_ylabel(label, color="#1f5fa8")
        memory = axis.twinx()
        memory.plot(sizes, [point["mebibytes"] for point in points], "s--", color="#b0552d")
        memory.set_ylabel("MiB beyond the start", color="#b0552d")
        memory.set_ylim(0, max(20, 1.25 * max(point["mebibytes"] for point in points)))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Measures the series, each point in a process of its own, and draws them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/growth.png"), metavar="FILE")
    parser.add_argument(
        "--only", nargs="+", choices=SERIES, default=list(SERIES), metavar="NAME", help=", ".join(SERIES)
    )
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(measure(args.point[0], int(args.point[1]))))
        return
    stored = args.out.with_suffix(".json")
    measurements = json.loads(stored.read_text()) if stored.exists() else {}
    for name in args.only:
        series, measurements[name] = SERIES[name], []
        print(f"{series.title}: {series.quantity}, seconds, ms a {series.unit or 'run'}, MiB")
        for size in series.sizes:
            command = [sys.executable, __file__, "--point", name, str(size)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | THREADS)
            point = json.loads(done.stdout.splitlines()[-1])
            measurements[name].append(point)
            each = 1000 * point["seconds"] / point["count"]
            print(f"  {size:5d} {point['seconds']:9.3f} {each:9.3f} {point['mebibytes']:8.1f}", flush=True)
        write_json(stored, measurements)
    draw(measurements, args.out)
    print(f"drawn in {args.out}, points in {stored}")


if __name__ == "__main__":
    main()
