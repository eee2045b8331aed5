"""The command `train-search-prior`, which trains both networks that guide the program search."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arc_core.checkpoint import save_checkpoint
from arc_core.config import config_to_dict, workspace_folder
from arc_core.datasets import load_tasks
from arc_core.errors import InputError, run_command
from arc_core.files import show_path
from arc_core.progress import Progress
from arc_core.runs import new_run
from jepa_hrl.guidance.primitive_prior import METHOD
from jepa_hrl.guidance.train_prior import (
    build_checkpoint,
    evaluate_prior_network,
    load_examples,
    split_examples,
    train_prior_network,
    train_step_policy,
)
from jepa_hrl.synthesis.dataset import generate, read_config

_CURRICULUM = "data/prior_curriculum"  # where the tasks are written if none are given


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `train-search-prior` and returns its exit status."""
    parser = argparse.ArgumentParser(
        "train-search-prior",
        description="Train the network that guides the program search, on synthetic tasks. Without --tasks it first "
        f"writes a curriculum of its own to {_CURRICULUM}, with another seed than the pilot's.",
        epilog="example: uv run train-search-prior --tasks data/pilot_curriculum/manifest.jsonl",
    )
    parser.add_argument("--tasks", type=Path, metavar="MANIFEST", help="synthetic tasks to learn from")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument(
        "--practice", type=int, metavar="N", help="random programs for the steps (default: the recipe's)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run-dir", type=Path, metavar="DIR")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: one a core)")
    args = parser.parse_args(argv)
    return run_command(lambda: _train(args, Console(emoji=False)))


def _train(args: argparse.Namespace, console: Console) -> int:
    began = time.perf_counter()
    overrides = [] if args.practice is None else ["--task_schedule.practice.count", str(args.practice)]
    practice = read_config(workspace_folder() / "configs" / "data" / "step_practice.yaml", overrides)
    manifest = args.tasks or _generate_curriculum(args.workers, console)
    if not manifest.is_file():
        raise InputError(f"--tasks must be a manifest that generate-dataset wrote; {manifest} does not exist")
    data = f"manifest:{manifest}"
    tasks = load_tasks(data)
    features, shares = load_examples(tasks, manifest, args.workers)
    learned, held_out = split_examples(len(features), args.seed)
    run = new_run(workspace_folder() / "runs", METHOD, "quick", args.run_dir)
    console.print(
        f"{len(learned):,} tasks to learn from, {len(held_out):,} held out; writing to {show_path(run.path)}",
        soft_wrap=True,
    )
    with Progress(console, args.steps, "training") as progress:
        prior = train_prior_network(
            features[learned], shares[learned], args.steps, args.batch_size, args.seed, progress
        )
    prior_metrics = evaluate_prior_network(prior, features[held_out], shares[held_out])
    policy, policy_metrics = train_step_policy(practice, args.workers, args.seed, console)
    settings = {
        "steps": args.steps, "batch_size": args.batch_size, "seed": args.seed, "practice": config_to_dict(practice),
    }  # fmt: skip
    checkpoint = build_checkpoint(prior, policy, settings, args.steps, prior_metrics["bits"], tasks, data)
    save_checkpoint(run.path / "checkpoints", checkpoint, is_best=True, keep_last=1)
    console.print(
        f"held-out tasks: {prior_metrics['bits']:.2f} bits a primitive, {prior_metrics['in_top_5']:.3f} of a program's "
        f"primitives among the five likeliest\nheld-out random programs: {policy_metrics['bits']:.2f} bits a step, "
        f"{policy_metrics['in_top_5']:.3f} of steps among the five likeliest\n"
        f"trained in {time.perf_counter() - began:.0f} s; run in {show_path(run.path)}\n"
        "next: uv run eval compare --methods dsl dsl-guided --data arc1:train --limit 40",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


def _generate_curriculum(workers: int, console: Console) -> Path:
    """Generates the tasks of the command's own curriculum and returns their manifest."""
    folder = workspace_folder() / _CURRICULUM
    console.print(f"synthetic tasks in {show_path(folder)}", highlight=False, soft_wrap=True)
    config = read_config(workspace_folder() / "configs" / "data" / "prior_curriculum.yaml")
    generate(config, folder, workers, console)
    return folder / "manifest.jsonl"


if __name__ == "__main__":
    raise SystemExit(main())
