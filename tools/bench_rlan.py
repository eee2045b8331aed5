"""Measures RLAN's training speed on bucketed canvases and on 30x30, and the time outside forward and backward.

    uv run tools/bench_rlan.py

Both variants train on the same batches of real arc1:train queries with the same weights; only the canvas differs, and
the losses of both are compared. Steps alternate, so that a slow moment of the machine affects both.
"""

import argparse
import statistics
import time
from dataclasses import dataclass, field

import torch

from arc_core.datasets import load_tasks
from arc_core.grid import MAX_SIDE
from arc_core.tensors import TaskTensors
from rlan.config import DataConfig, ModelConfig, TrainingConfig
from rlan.data.queries import QuerySampler
from rlan.losses.objective import build_training_batch, total_loss
from rlan.model.rlan import Rlan


@dataclass
class Clock:
    """Seconds spent in the parts of a training step."""

    batch: float = 0.0
    forward_backward: float = 0.0
    optimizer: float = 0.0
    losses: list[float] = field(default_factory=list)

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return self.batch + self.forward_backward + self.optimizer


def train_step(
    model: Rlan, optimizer: torch.optim.Optimizer, sampler: QuerySampler, step: int, full: bool, clock: Clock
) -> None:
    """Does one optimiser step and adds its times and loss to a clock.

    Args:
        model: the model to train.
        optimizer: its optimiser.
        sampler: training queries.
        step: index of the batch.
        full: compute on the full 30x30 canvas, not on the smallest one that holds the batch.
        clock: sums of times, and losses.
    """
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    start = time.perf_counter()
    epoch, rows = sampler.plan.batch(step)
    queries = sampler.epoch_queries(epoch).select(rows).trim_padding()
    inputs, targets = build_training_batch(sampler.tensors, queries, MAX_SIDE if full else None)
    synchronize()
    built = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_available()):
        outputs = model(inputs)
        losses = total_loss(outputs, targets, inputs.answer_extent, inputs.query_size, TrainingConfig())
    losses.total.backward()
    synchronize()
    computed = time.perf_counter()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    clock.losses.append(losses.total.item())
    end = time.perf_counter()
    clock.batch += built - start
    clock.forward_backward += computed - built
    clock.optimizer += end - computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--solver-steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=96, help="a sample of one epoch's batches, small and large alike")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tensors = TaskTensors.from_tasks(load_tasks("arc1:train"), device)
    sampler = QuerySampler(tensors, DataConfig(max_demonstrations=3, samples_per_task=8), args.batch, seed=0)
    config = ModelConfig(
        hidden_dim=args.hidden, num_heads=args.heads, num_solver_steps=args.solver_steps, context_layers=1
    )
    ratios, rates, full_rates, shares = [], [], [], []
    for repeat in range(args.repeats):
        variants = []
        for full in (False, True):
            torch.manual_seed(0)
            model = Rlan(config).to(device)
            variants.append((model, torch.optim.AdamW(model.parameters(), 1e-4, fused=True), Clock(), full))
        for step in range(2):  # warm up
            for model, optimizer, _, full in variants:
                train_step(model, optimizer, sampler, step, full, Clock())
        for step in range(2, 2 + args.steps):
            for model, optimizer, clock, full in variants:
                train_step(model, optimizer, sampler, step, full, clock)
        bucketed_clock, full_clock = variants[0][2], variants[1][2]
        max_difference = max(abs(a - b) / abs(b) for a, b in zip(bucketed_clock.losses, full_clock.losses, strict=True))
        assert max_difference < 0.05, f"losses of the two canvases differ by {max_difference:.1%}"
        samples = args.steps * args.batch
        rates.append(samples / bucketed_clock.total)
        full_rates.append(samples / full_clock.total)
        ratios.append(full_clock.total / bucketed_clock.total)
        shares.append(1 - bucketed_clock.forward_backward / bucketed_clock.total)
        print(f"repeat {repeat}: {ratios[-1]:.2f} times, losses within {max_difference:.2%}", flush=True)
    print(f"bucketed     {statistics.median(rates):8.1f} samples/s")
    print(f"full 30x30   {statistics.median(full_rates):8.1f} samples/s")
    print(f"ratio        {statistics.median(ratios):8.2f}")
    print(f"outside forward and backward {statistics.median(shares):.1%}")
    print(f"on {device}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
