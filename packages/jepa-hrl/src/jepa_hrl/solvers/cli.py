"""`evaluate-arc`: evaluates program search over a set of tasks, with and without guidance, and writes JSON."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from arc_core.config import workspace_folder
from arc_core.datasets import evenly_spaced, fingerprint, load_tasks
from arc_core.device import solving_device
from arc_core.errors import InputError, run_command
from arc_core.files import show_path, write_json, write_text
from arc_core.render import grids_to_text
from arc_core.runs import git_commit, newest_run
from arc_core.task import Task
from jepa_hrl.dsl.program import explain, parse
from jepa_hrl.guidance.primitive_prior import METHOD, TRAIN_COMMAND, load_prior
from jepa_hrl.guidance.step_policy import StepPolicyLoader
from jepa_hrl.jepa.checkpoint import LoadedJepa, load_jepa
from jepa_hrl.jepa.config import METHOD as JEPA_METHOD
from jepa_hrl.jepa.config import TRAIN_COMMAND as JEPA_COMMAND
from jepa_hrl.search.engine import Limits
from jepa_hrl.search.explain import steps_to_svg, trace_steps
from jepa_hrl.search.results import ATTEMPTS, Result
from jepa_hrl.solvers.active_reasoner import ReasonerSolver, open_reasoner
from jepa_hrl.solvers.evaluate_arc import (
    Variant,
    evaluate_variants,
    make_report,
    read_metadata,
    summarize_latent_distances,
)
from jepa_hrl.solvers.latent_guide import LatentGuide


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `evaluate-arc`; returns its exit status."""
    parser = argparse.ArgumentParser(
        "evaluate-arc",
        description="Search programs for a set of tasks and report how many are solved in two attempts.",
        epilog="example: uv run evaluate-arc --data arc1:train --limit 40 --explain --output runs/search/arc1.json",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--tasks", type=Path, metavar="MANIFEST", help="synthetic tasks of generate-dataset")
    source.add_argument("--arc-dev-root", type=Path, metavar="DIR", help="a folder of ARC JSON files")
    source.add_argument("--data", metavar="SPEC", help="a data spec, such as arc1:eval")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the JSON to write")
    parser.add_argument("--variants", metavar="NAMES", help="dsl_only, meta_guided (default: all there are)")
    parser.add_argument("--prior", type=Path, metavar="RUN", help="run of train-search-prior (default: the newest)")
    parser.add_argument("--max-nodes", type=int, default=Limits.size, help="primitives in a program (default 16)")
    parser.add_argument("--budget-seconds", type=float, default=20.0, help="for a task (default 20)")
    parser.add_argument("--max-programs", type=int, help="tested for a task (default: as the seconds allow)")
    parser.add_argument("--latent-config", type=Path, metavar="RUN", help="JEPA run or recipe: adds latent_guided")
    parser.add_argument("--latent-device", default="cpu", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--reasoner", type=Path, metavar="RUN", help="active reasoner's run: adds active_reasoner")
    parser.add_argument("--limit", type=int, metavar="N", help="N tasks, evenly spaced, only")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: one a core)")
    parser.add_argument("--explain", action="store_true", help="print and draw the program of each solved task")
    args = parser.parse_args(argv)
    return run_command(lambda: _evaluate(args, Console(emoji=False)))


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    tasks, spec, manifest = _load_tasks(args)
    limits = Limits(args.budget_seconds, args.max_programs or Limits.programs, args.max_nodes)
    variants, jepa, files = _make_variants(args, tasks, console)
    settings: dict[str, object] = {
        "data": spec, "fingerprint": fingerprint(tasks), "budget_seconds": limits.seconds,
        "max_nodes": limits.size, "max_programs": limits.programs, "attempts": ATTEMPTS, **files,
    }  # fmt: skip
    phases, programs = read_metadata(manifest)
    journal = args.output.with_name(args.output.name + ".partial")
    results = evaluate_variants(tasks, variants, limits, settings, journal, args.workers, console)
    report = make_report(results, settings, phases, programs, git_commit())
    first_results = next(iter(results.values()))
    if jepa is not None:
        report["latent_distances"] = summarize_latent_distances(jepa, tasks, first_results)
    write_json(args.output, report)
    journal.unlink()
    if args.explain:
        folder = args.output.with_name(args.output.stem + "_explained")
        folder.mkdir(parents=True, exist_ok=True)
        _print_explanations(tasks, first_results, folder, console)
    _print_report(report, console)
    console.print(
        f"written to {show_path(args.output)}\nnext: uv run eval compare --methods dsl", highlight=False, soft_wrap=True
    )
    return 0


def _make_variants(
    args: argparse.Namespace, tasks: Sequence[Task], console: Console
) -> tuple[dict[str, Variant], LoadedJepa | None, dict[str, str | None]]:
    """Loads the models that the arguments name.

    Returns:
        The variants to evaluate, by name; the JEPA, if one is named; the models' checkpoints, for the settings.
    """
    newest = newest_run(workspace_folder() / "runs", METHOD)
    prior_path = args.prior or (newest.path if newest else None)
    if prior_path is None:
        console.print(f"without meta_guided: no prior is trained yet ({TRAIN_COMMAND})", highlight=False)
    available = ["dsl_only"] + ["meta_guided"] * (prior_path is not None)
    available += ["latent_guided"] * (args.latent_config is not None)
    available += ["active_reasoner"] * (args.reasoner is not None)
    names = args.variants.split(",") if args.variants else available
    for name in names:
        if name not in available:
            raise InputError(f"--variants must be some of {', '.join(available)}; got {name!a}")
    variants = dict.fromkeys(names, Variant())
    files: dict[str, str | None] = {"prior": None, "jepa": None, "reasoner": None}
    if "meta_guided" in names:
        prior, checkpoint = load_prior(prior_path)
        costs = prior.bits([task.without_answers() for task in tasks])
        variants["meta_guided"] = Variant(costs, make_policy=StepPolicyLoader(checkpoint.file))
        files["prior"] = str(checkpoint.file)
    jepa = None
    if args.latent_config is not None:
        jepa = load_jepa(_find_jepa_run(args.latent_config), solving_device(args.latent_device))
        files["jepa"] = str(jepa.file)
        if "latent_guided" in names:
            variants["latent_guided"] = Variant(make_heuristic=LatentGuide(jepa.file, args.latent_device))
    if "active_reasoner" in names:
        reasoner = open_reasoner(args.reasoner, "cpu")
        assert isinstance(reasoner.solver, ReasonerSolver)
        variants["active_reasoner"] = Variant(reasoner=reasoner.solver)
        files["reasoner"] = str(reasoner.checkpoint)
    return variants, jepa, files


def _load_tasks(args: argparse.Namespace) -> tuple[list[Task], str, Path | None]:
    """Returns the tasks, their data spec, and their manifest if they have one."""
    if args.tasks is not None:
        if not args.tasks.is_file():
            raise InputError(f"--tasks must be a manifest that generate-dataset wrote; {args.tasks} does not exist")
        spec = f"manifest:{args.tasks}"
    else:
        spec = f"dir:{args.arc_dev_root}" if args.arc_dev_root is not None else args.data
    tasks = load_tasks(spec)
    if not all(task.has_answers for task in tasks):
        raise InputError(f"{spec}: every test must have its output; for tasks without answers use eval submission")
    return evenly_spaced(tasks, args.limit), spec, args.tasks


def _find_jepa_run(path: Path) -> Path:
    """Returns a run folder or checkpoint as it is; of a recipe, its newest run."""
    if path.suffix not in (".yaml", ".yml"):
        return path
    run = newest_run(workspace_folder() / "runs", JEPA_METHOD, path.stem)
    if run is None:
        raise InputError(
            f"--latent-config {path}: no run of this recipe; train one with {JEPA_COMMAND} --config {path}"
        )
    return run.path


def _print_report(report: Mapping[str, object], console: Console) -> None:
    variants, phases = report["variants"], report["by_phase"]
    assert isinstance(variants, dict) and isinstance(phases, dict)
    names = ("variant", "solved", "rate", "95%", "wrong", "tested", "tested/s", "new")
    table = Table(*(Column(name, no_wrap=True) for name in names), box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name, figures in variants.items():
        low, high = figures["interval_95"]
        table.add_row(
            name, str(figures["solved_count"]), f"{figures['success_rate']:.3f}", f"{low:.3f}-{high:.3f}",
            str(figures["fits_but_wrong"]), f"{figures['avg_programs_tested']:,.0f}",
            f"{figures['programs_per_second']:,}", f"{figures['share_of_new_values']:.2f}",
        )  # fmt: skip
    console.print(table)
    distances = report.get("latent_distances")
    if isinstance(distances, dict):
        console.print(
            "latent distances: " + ", ".join(f"{key} {value:.3f}" for key, value in distances.items() if value)
        )
    for name, rates in phases.items():
        if rates:
            console.print(f"{name}: " + ", ".join(f"{phase} {rate:.3f}" for phase, rate in rates.items()))


def _print_explanations(tasks: Sequence[Task], results: Sequence[Result], folder: Path, console: Console) -> None:
    """Prints and draws the program of each solved task."""
    by_id = {task.task_id: task for task in tasks}
    for result in (result for result in results if result.solved):
        program, grid = parse(result.program), by_id[result.task_id].test[0].input
        console.print(f"[bold]{result.task_id}[/]  {program}", highlight=False, soft_wrap=True)
        console.print(f"  {explain(program)}", highlight=False, markup=False, soft_wrap=True)
        console.print(grids_to_text(trace_steps(program, grid), console.is_terminal, console.width), crop=False)
        write_text(folder / f"{result.task_id.replace('/', '_')}.svg", steps_to_svg(result.task_id, program, grid))
    console.print(f"drawn in {show_path(folder)}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main())
