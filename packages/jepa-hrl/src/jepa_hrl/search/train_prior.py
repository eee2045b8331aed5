"""`train-search-prior`: what guides the search, from synthetic tasks.

Two networks: one reads off a task's demonstrations which primitives it needs, the other off what a program has made of
them so far which step comes next (`train_steps`).
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from joblib import delayed
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.config import config_to_dict, workspace_folder
from arc_core.datasets import fingerprint, load_tasks
from arc_core.errors import InputError, run_command
from arc_core.files import show_path
from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from arc_core.runs import new_run
from arc_core.task import Task
from jepa_hrl.dsl.program import Expression, names_in, parse
from jepa_hrl.search.features import task_features
from jepa_hrl.search.fitting import fit
from jepa_hrl.search.moves import STEP_NAMES
from jepa_hrl.search.prior import METHOD, NAMES, PriorNetwork
from jepa_hrl.search.step_policy import StepNetwork
from jepa_hrl.search.train_steps import drawn_examples, step_metrics, train_steps
from jepa_hrl.synthesis.config import SynthesisConfig
from jepa_hrl.synthesis.dataset import generate, plans_of, read_config
from jepa_hrl.workers import in_workers

_HELD_OUT = 0.1
_DATA = "data/prior_curriculum"
_STEP_EPOCHS, _STEP_BATCH = 5, 1024


def wanted_shares(program: Expression) -> Tensor:
    """(primitives,) how often a program uses each, as shares."""
    counts = torch.zeros(len(NAMES))
    for name in names_in(program):
        counts[NAMES.index(name)] += 1
    return counts / counts.sum()


def load_examples(tasks: Sequence[Task], manifest: Path, workers: int) -> tuple[Tensor, Tensor]:
    """(tasks, F) features and (tasks, primitives) wanted shares of the tasks of a manifest.

    Raises:
        InputError: the manifest's tasks do not say their programs.
    """
    with manifest.open(encoding="utf-8") as lines:
        programs = [json.loads(line).get("metadata", {}).get("program") for line in lines if line.strip()]
    if not all(isinstance(program, str) for program in programs):
        raise InputError(f"{show_path(manifest)}: every task must say metadata.program, as generate-dataset writes it")
    jobs = (delayed(task_features)(task) for task in tasks)
    features = list(in_workers(jobs, workers, return_as="list", batch_size=64))
    return torch.from_numpy(np.stack(features)), torch.stack([wanted_shares(parse(program)) for program in programs])


def train(features: Tensor, shares: Tensor, steps: int, batch: int, seed: int, progress: Progress) -> PriorNetwork:
    """Learns by the cross-entropy between wanted and predicted shares; batches are functions of (seed, step)."""
    torch.manual_seed(seed_for(seed, "prior", 0))
    network = PriorNetwork(features.shape[1], 256)
    network.mean.copy_(features.mean(dim=0))
    network.scale.copy_(features.std(dim=0).clamp_min(1e-3))

    def loss_of(step: int) -> Tensor:
        rows = torch.from_numpy(generator_for(seed, "prior batches", step).integers(len(features), size=batch))
        return functional.cross_entropy(network(features[rows]), shares[rows])

    fit(network, loss_of, steps, 3e-3, progress)
    return network


@torch.no_grad()
def held_out_metrics(network: PriorNetwork, features: Tensor, shares: Tensor) -> dict[str, float]:
    """Cross-entropy in bits a primitive, and how many of a program's primitives are among the five likeliest."""
    logits = network(features)
    likeliest = logits.topk(5, dim=1).indices
    found = (shares.gather(1, likeliest) > 0).sum(dim=1) / (shares > 0).sum(dim=1).clamp_max(5)
    bits = functional.cross_entropy(logits, shares) / float(np.log(2))
    return {"bits": float(bits), "in_top_5": float(found.mean())}


def main(argv: Sequence[str] | None = None) -> int:
    """The command `train-search-prior`."""
    parser = argparse.ArgumentParser(
        "train-search-prior",
        description="Train the network that guides the program search, on synthetic tasks. Without --tasks it first "
        f"writes a curriculum of its own to {_DATA}, with another seed than the pilot's.",
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
        folder = workspace_folder() / _DATA
        console.print(f"synthetic tasks in {show_path(folder)}", highlight=False, soft_wrap=True)
        config = read_config(workspace_folder() / "configs" / "data" / "prior_curriculum.yaml")
        generate(config, folder, args.workers, console)
        manifest = folder / "manifest.jsonl"
    elif not manifest.is_file():
        raise InputError(f"--tasks must be a manifest that generate-dataset wrote; {manifest} does not exist")
    tasks = load_tasks(f"manifest:{manifest}")
    features, shares = load_examples(tasks, manifest, args.workers)
    order = torch.from_numpy(generator_for(args.seed, "prior split", 0).permutation(len(features)))
    held = order[: max(1, int(_HELD_OUT * len(order)))]
    learnt = order[len(held) :]
    run = new_run(workspace_folder() / "runs", METHOD, "quick", args.run_dir)
    console.print(
        f"{len(learnt):,} tasks to learn from, {len(held):,} held out; writing to {show_path(run.path)}", soft_wrap=True
    )
    with Progress(console, args.steps, "training") as progress:
        network = train(features[learnt], shares[learnt], args.steps, args.batch_size, args.seed, progress)
    metrics = held_out_metrics(network, features[held], shares[held])
    step_network, step_figures = _train_steps(args, practice, console)
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


def _train_steps(
    args: argparse.Namespace, practice: SynthesisConfig, console: Console
) -> tuple[StepNetwork, dict[str, float]]:
    """The policy of steps and its figures on tasks that it did not learn from."""
    ((plan, count),) = plans_of(practice)
    with Progress(console, count, "random programs") as progress:
        examples = drawn_examples(plan, count, practice.seed, args.workers, progress)
    held = max(1, int(_HELD_OUT / 2 * len(examples)))
    learnt = examples.part(slice(held, None))
    steps = max(1, round(_STEP_EPOCHS * len(learnt) / _STEP_BATCH))
    with Progress(console, steps, "training on steps") as progress:
        network = train_steps(learnt, steps, _STEP_BATCH, args.seed, progress)
    return network, step_metrics(network, examples.part(slice(held)))


if __name__ == "__main__":
    raise SystemExit(main())
