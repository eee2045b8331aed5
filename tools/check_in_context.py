"""Checks that RLAN learns in context, on rules that only the demonstrations show: a colour permutation, or one of the
rotations and reflections of the grid.

    uv run tools/check_in_context.py --rule colors
    uv run tools/check_in_context.py --rule turns

Trains on generated tasks, then answers new ones. Prints the exact accuracy with their own demonstrations, and with the
demonstrations of another task, which should be at chance. Test permutations are drawn from 3.6 million, so none was
trained on; all 8 rotations and reflections were trained on, on other grids.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console

from arc_core.augment import View, dihedral, random_color_tables
from arc_core.loop import make_schedule
from arc_core.progress import Progress
from arc_core.scoring import is_exact
from arc_core.task import Pair, Task
from arc_core.tensors import TaskTensors
from rlan.config import AugmentationConfig, DataConfig, ModelConfig, TrainingConfig
from rlan.data.queries import QuerySampler, build_test_queries
from rlan.inference import answer_queries
from rlan.losses.objective import build_training_batch, total_loss
from rlan.model.rlan import Rlan

PAIRS = 4


def make_task(rng: np.random.Generator, rule: str, index: int, max_side: int) -> Task:
    """Generates a task of random grids whose outputs follow one random rule.

    Args:
        rng: source of the grids and of the rule.
        rule: "colors" or "turns".
        index: number of the task in its name.
        max_side: longest side of a grid; the shortest is 3.
    """
    colors = random_color_tables(rng, 1, fix_background=False)[0]
    element = int(rng.integers(8))
    pairs = []
    for _ in range(PAIRS):
        height, width = rng.integers(3, max_side + 1, size=2)
        grid = rng.integers(10, size=(height, width)).astype(np.uint8)
        target = colors[grid] if rule == "colors" else dihedral(grid, element)
        pairs.append(Pair(grid, target))
    return Task(f"{rule}{index}", tuple(pairs[:-1]), tuple(pairs[-1:]))


def exact_accuracy(model: Rlan, tasks: list[Task]) -> float:
    """Returns the share of tasks whose test input is answered exactly."""
    tensors = TaskTensors.from_tasks([task.without_answers() for task in tasks])
    queries = build_test_queries(tensors, range(len(tasks)), PAIRS - 1, View())
    answers = answer_queries(model, tensors, queries, stablemax=False)
    is_right = [
        is_exact(grid, task.test[0].output)
        for (grid, _), task in zip(answers, tasks, strict=True)
        if task.test[0].output is not None
    ]
    return float(np.mean(is_right))


def train(rule: str, args: argparse.Namespace, progress: Progress) -> Rlan:
    """Trains a model on tasks of one rule; the learning rate rises for a tenth of the steps and then falls.

    Args:
        rule: "colors" or "turns".
        args: the command line.
        progress: shows the steps and the loss.
    """
    rng = np.random.default_rng(args.seed)
    tensors = TaskTensors.from_tasks([make_task(rng, rule, index, args.largest) for index in range(args.tasks)])
    augmentation = AugmentationConfig(dihedral=False, color_permutation=False)
    data = DataConfig(max_demonstrations=PAIRS - 1, vary_demonstrations=False, augmentation=augmentation)
    sampler = QuerySampler(tensors, data, args.batch, args.seed)
    torch.manual_seed(args.seed)
    model = Rlan(
        ModelConfig(hidden_dim=args.hidden, num_heads=args.heads, num_solver_steps=args.solver_steps, context_layers=1)
    )
    loss_config = TrainingConfig(loss_mode="cross_entropy", lambda_entropy=0.01, lambda_centroid_diversity=0.05)
    optimizer = torch.optim.AdamW(model.parameters(), args.learning_rate, fused=True)
    schedule = make_schedule(optimizer, "onecycle", args.steps, 0.1)
    for step in range(args.steps):
        epoch, rows = sampler.plan.batch(step)
        inputs, targets = build_training_batch(tensors, sampler.epoch_queries(epoch).select(rows).trim_padding())
        losses = total_loss(model(inputs), targets, inputs.answer_extent, inputs.query_size, loss_config)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        progress.update(step + 1, f"loss {losses.task.item():.3f}")
    return model.eval()


def check(rule: str, args: argparse.Namespace, progress: Progress) -> tuple[float, float]:
    """Returns the exact accuracy on new tasks with their own demonstrations, and with those of another task.

    Args:
        rule: "colors" or "turns".
        args: the command line.
        progress: shows the steps of training.
    """
    model = train(rule, args, progress)
    rng = np.random.default_rng(args.seed + 1)
    tests = [make_task(rng, rule, index, args.largest) for index in range(200)]
    shuffled = [replace(task, train=other.train) for task, other in zip(tests, tests[1:] + tests[:1], strict=True)]
    return exact_accuracy(model, tests), exact_accuracy(model, shuffled)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rule", choices=("colors", "turns"), default="turns")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--largest", type=int, default=12, help="longest side of a grid")
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--solver-steps", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main() -> None:
    args, console, start = parse_arguments(), Console(emoji=False), time.monotonic()
    with Progress(console, args.steps, args.rule) as progress:
        own, others = check(args.rule, args, progress)
    console.print(
        f"{args.rule}, sides 3 to {args.largest}: {args.steps} steps of {args.batch} queries, "
        f"{(time.monotonic() - start) / 60:.1f} minutes in all\n"
        f"exact, own demonstrations       {own:.3f}\n"
        f"exact, another's demonstrations {others:.3f}"
    )


if __name__ == "__main__":
    main()
