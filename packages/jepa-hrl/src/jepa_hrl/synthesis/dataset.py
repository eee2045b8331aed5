"""Synthetic data sets on disk: manifest.jsonl, summary.json and a picture of some of the tasks.

A task depends only on its phase, its index and the seed. Therefore the bytes are the same for any number of workers,
and an interrupted run resumes after the last complete line.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from joblib import delayed
from rich.console import Console

from arc_core.config import apply_overrides, build_config, config_to_dict, parse_overrides, read_config_file
from arc_core.datasets import fingerprint, load_tasks
from arc_core.errors import InputError
from arc_core.files import show_path, write_json
from arc_core.progress import Progress
from arc_core.task import Task, task_to_json
from arc_core.workers import run_in_workers
from jepa_hrl.dsl.steps import STEPS, find_step
from jepa_hrl.synthesis.config import SynthesisConfig
from jepa_hrl.synthesis.contact_sheet import write_contact_sheet
from jepa_hrl.synthesis.generator import PhasePlan, SyntheticTask, make_task

_TASKS_PER_JOB = 8
_CONTACT_SHEET_TASKS = 24


def build_plans(config: SynthesisConfig) -> list[tuple[PhasePlan, int]]:
    """Returns each phase's plan with its number of tasks.

    Raises:
        ConfigError: there is no step of a name.
    """
    plans = []
    for name, phase in config.task_schedule.items():
        steps = tuple(map(find_step, phase.primitives or config.generator.allowed_primitives or STEPS))
        shares = config.program.length_schedule[name]
        demonstrations = (config.generator.min_demonstrations, config.generator.max_demonstrations)
        plan = PhasePlan(
            name, steps, tuple(shares), tuple(shares.values()), config.grid, demonstrations, config.generator.determined
        )
        plans.append((plan, phase.count))
    return plans


def manifest_line(synthetic: SyntheticTask) -> str:
    """Returns a task with its metadata as a line of the manifest."""
    task = synthetic.task
    return json.dumps({"task_id": task.task_id} | task_to_json(task) | {"metadata": synthetic.metadata}) + "\n"


def _generate_lines(jobs: Sequence[tuple[PhasePlan, range]], seed: int, workers: int) -> Iterator[list[str]]:
    """Yields the manifest lines of each job, in the order of the jobs."""
    calls = (delayed(_make_lines)(plan, indices, seed) for plan, indices in jobs)
    yield from run_in_workers(calls, workers, pre_dispatch="2 * n_jobs")


def _make_lines(plan: PhasePlan, indices: range, seed: int) -> list[str]:
    return [manifest_line(make_task(plan, index, seed)) for index in indices]


def generate(config: SynthesisConfig, folder: Path, workers: int, console: Console) -> dict[str, object]:
    """Writes a data set, or completes an interrupted one, and returns its summary.

    Args:
        config: the recipe.
        folder: receives manifest.jsonl, summary.json and contact_sheet.png.
        workers: number of processes; -1 for one per core.
        console: shows the progress.
    Raises:
        InputError: the folder holds another data set, or a phase has no acceptable tasks.
    """
    plans = build_plans(config)
    total = sum(count for _, count in plans)
    recipe = json.loads(json.dumps(config_to_dict(config)))
    done, partial, recipe_file = folder / "summary.json", folder / "manifest.jsonl.partial", folder / "recipe.json"
    if done.exists():
        stored = json.loads(done.read_text(encoding="utf-8"))
        if stored.get("config") == recipe:
            console.print(f"{show_path(folder)} holds this data set already", soft_wrap=True)
            return dict(stored)
        raise InputError(f"{show_path(folder)} holds a data set of another recipe; choose another --output-dir")
    folder.mkdir(parents=True, exist_ok=True)
    resumed = 0  # tasks of an interrupted run
    if recipe_file.exists() and json.loads(recipe_file.read_text(encoding="utf-8")) == recipe and partial.exists():
        content = partial.read_bytes()
        complete_lines = content[: content.rfind(b"\n") + 1]
        partial.write_bytes(complete_lines)
        resumed = complete_lines.count(b"\n")
    else:
        partial.unlink(missing_ok=True)
    write_json(recipe_file, recipe)
    jobs, first = [], 0
    for plan, count in plans:
        start = min(max(resumed - first, 0), count)
        jobs += [(plan, range(n, min(n + _TASKS_PER_JOB, count))) for n in range(start, count, _TASKS_PER_JOB)]
        first += count
    start_time, written = time.perf_counter(), resumed
    with Progress(console, total, "tasks", resumed) as progress, partial.open("a", encoding="utf-8") as manifest:
        for lines in _generate_lines(jobs, config.seed, workers):
            manifest.writelines(lines)
            manifest.flush()
            written += len(lines)
            rate = 60 * (written - resumed) / (time.perf_counter() - start_time)
            progress.update(written, f"{rate:,.0f} a minute")
    tasks = load_tasks(f"manifest:{partial}")
    summary = summarize(tasks, partial, recipe)
    partial.replace(folder / "manifest.jsonl")
    recipe_file.unlink()
    write_contact_sheet(tasks, folder / "contact_sheet.png", _CONTACT_SHEET_TASKS, config.seed)
    write_json(done, summary)
    return summary


def summarize(tasks: Sequence[Task], manifest: Path, recipe: dict[str, object]) -> dict[str, object]:
    """Counts a manifest's tasks by phase, length, step, family and size, and computes their fingerprint.

    Args:
        tasks: the manifest's tasks.
        manifest: the file.
        recipe: the config as JSON, which the summary repeats.
    """
    phases: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    primitives: Counter[str] = Counter()
    families: Counter[str] = Counter()
    sides: Counter[int] = Counter()
    with manifest.open(encoding="utf-8") as lines:
        for line in lines:
            task = json.loads(line)
            metadata = task["metadata"]
            phases[metadata["phase"]] += 1
            lengths[metadata["length"]] += 1
            families[metadata["rule_family"]] += 1
            primitives.update(step["name"] for step in metadata["rule_trace"])
            sides.update(max(len(pair["input"]), len(pair["input"][0])) for pair in task["train"] + task["test"])
    return {
        "total_tasks": sum(phases.values()), "phases": dict(phases),
        "program_length_histogram": {str(n): lengths[n] for n in sorted(lengths)},
        "primitive_counts": dict(primitives.most_common()), "rule_families": dict(families.most_common()),
        "grid_sizes": {str(n): sides[n] for n in sorted(sides)},
        "fingerprint": fingerprint(tasks),
        "sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(), "config": recipe,
    }  # fmt: skip


def read_config(path: Path, overrides: Sequence[str] = ()) -> SynthesisConfig:
    """Reads a data config and applies command-line overrides.

    Raises:
        ConfigError: a key is unknown or its value is not allowed.
    """
    values = apply_overrides(read_config_file(path), parse_overrides(overrides))
    return build_config(SynthesisConfig, values, str(path))[0]
