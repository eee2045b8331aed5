"""`train-search-prior`: trains both networks that guide the program search."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.config import config_to_dict, workspace_folder
from arc_core.datasets import fingerprint, load_tasks
from arc_core.errors import InputError, run_command
from arc_core.files import show_path
from arc_core.progress import Progress
from arc_core.randomness import generator_for
from arc_core.runs import new_run
from jepa_hrl.guidance.primitive_prior import METHOD, NAMES
from jepa_hrl.guidance.train_prior import DATA, HELD_OUT, held_out_metrics, load_examples, train, train_step_policy
from jepa_hrl.search.moves import STEP_NAMES
from jepa_hrl.synthesis.dataset import generate, read_config


def main(argv: Sequence[str] | None = None) -> int:
    """The command `train-search-prior`."""
    parser = argparse.ArgumentParser(
        "train-search-prior",
        description="Train the network that guides the program search, on synthetic tasks. Without --tasks it first "
        f"writes a curriculum of its own to {DATA}, with another seed than the pilot's.",
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
    fewer = [] if args.practice is None else ["--task_schedule.practice.count", str(args.practice)]
    practice = read_config(workspace_folder() / "configs" / "data" / "step_practice.yaml", fewer)
    manifest = args.tasks
    if manifest is None:
        folder = workspace_folder() / DATA
        console.print(f"synthetic tasks in {show_path(folder)}", highlight=False, soft_wrap=True)
        config = read_config(workspace_folder() / "configs" / "data" / "prior_curriculum.yaml")
        generate(config, folder, args.workers, console)
        manifest = folder / "manifest.jsonl"
    elif not manifest.is_file():
        raise InputError(f"--tasks must be a manifest that generate-dataset wrote; {manifest} does not exist")
    tasks = load_tasks(f"manifest:{manifest}")
    features, shares = load_examples(tasks, manifest, args.workers)
    order = torch.from_numpy(generator_for(args.seed, "prior split", 0).permutation(len(features)))
    held = order[: max(1, int(HELD_OUT * len(order)))]
    learnt = order[len(held) :]
    run = new_run(workspace_folder() / "runs", METHOD, "quick", args.run_dir)
    console.print(
        f"{len(learnt):,} tasks to learn from, {len(held):,} held out; writing to {show_path(run.path)}", soft_wrap=True
    )
    with Progress(console, args.steps, "training") as progress:
        network = train(features[learnt], shares[learnt], args.steps, args.batch_size, args.seed, progress)
    metrics = held_out_metrics(network, features[held], shares[held])
    step_network, step_figures = train_step_policy(practice, args.workers, args.seed, console)
    known = {
        "steps": args.steps,
        "batch_size": args.batch_size,
        "seed": args.seed,
        "practice": config_to_dict(practice),
    }
    both = nn.ModuleDict({"primitives": network, "steps": step_network})
    checkpoint = Checkpoint(
        METHOD, args.steps, both.state_dict(), {}, {}, known, fingerprint(tasks), (f"manifest:{manifest}",),
        extras={"names": list(NAMES), "steps": list(STEP_NAMES)}, best_metric=(-metrics["bits"],),
    )  # fmt: skip
    save_checkpoint(run.path / "checkpoints", checkpoint, is_best=True, keep_last=1)
    console.print(
        f"held-out tasks: {metrics['bits']:.2f} bits a primitive, {metrics['in_top_5']:.3f} of a program's primitives "
        f"among the five likeliest\nheld-out random programs: {step_figures['bits']:.2f} bits a step, "
        f"{step_figures['in_top_5']:.3f} of steps among the five likeliest\n"
        f"trained in {time.perf_counter() - began:.0f} s; run in {show_path(run.path)}\n"
        "next: uv run eval compare --methods dsl dsl-guided --data arc1:train --limit 40",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
