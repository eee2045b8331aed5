"""How much faster HRM trains on bucketed canvases than on the published 30 x 30 sequence.

    uv run tools/bench_hrm.py

Forward through the ACT loss and backward, on the same random pairs of arc1:train and the same weights: batch 8,
hidden 256, 8 heads, 2+2 layers, 2x2 cycles, vocabulary 12. `full` in float32 is the published mathematics, checked by
the tests. Every repeat measures all variants one after another.
"""

import argparse
import time
from contextlib import nullcontext
from statistics import median

import numpy as np
import torch

from arc_core.datasets import load_tasks
from arc_core.tensors import TaskTensors
from hrm.config import ModelConfig
from hrm.data.batches import build_batch, choose_canvas
from hrm.data.identities import Identities, make_examples
from hrm.losses import segment_losses
from hrm.model.halting import Batch, q_continue_target
from hrm.model.reasoner import Reasoner

MODEL = ModelConfig(
    hidden_size=256, num_heads=8, H_layers=2, L_layers=2, H_cycles=2, L_cycles=2, puzzle_emb_ndim=256, halt_max_steps=16
)


def draw_batches(count: int, size: int, full_canvas: bool, seed: int) -> list[Batch]:
    """Draws batches as training does: a canvas in proportion to its pairs, then pairs of it.

    Args:
        count: batches.
        size: pairs of a batch.
        full_canvas: put the same pairs on the 30 x 30 canvas.
        seed: of the draws.
    """
    tasks = load_tasks("arc1:train")
    tensors = TaskTensors.from_tasks(tasks)
    identities = Identities.from_task_ids([task.task_id for task in tasks], 0, 0)
    examples, _ = make_examples(tensors, identities, 0)
    rng = np.random.default_rng(seed)
    # Systematic sampling over the sorted pairs: every run of batches has the whole set's mix of sizes.
    order = rng.permutation(len(examples))
    order = order[np.argsort(choose_canvas(examples.sides)[order], kind="stable")]
    indices = ((np.arange(count) + rng.random()) / count * len(order)).astype(int)
    batches = []
    for index in indices:
        side = int(choose_canvas(examples.sides[order[index : index + 1]])[0])
        members = np.flatnonzero(choose_canvas(examples.sides) == side)
        drawn = examples.select(rng.choice(members, size))
        canvas = 30 if full_canvas else side
        batches.append(build_batch(tensors, identities, drawn, canvas, MODEL.prefix_tokens, None))
    return batches


def measure_rate(model: Reasoner, batches: list[Batch], autocast: bool, device: str) -> float:
    """Measures the samples a second of forward and backward.

    Args:
        model: on the device.
        batches: on the device.
        autocast: compute in bfloat16.
        device: "cpu" or "cuda".
    """
    start_time = time.perf_counter()
    for batch in batches:
        precision = torch.autocast(device, torch.bfloat16) if autocast else nullcontext()
        rows = torch.zeros(len(batch.tokens), MODEL.puzzle_emb_ndim, device=device, requires_grad=True)
        with precision:
            state, output = model(model.initial_state(*batch.tokens.shape), batch.tokens, rows, batch.positions)
            target = q_continue_target(model, state, batch, rows, torch.ones(len(batch.tokens), device=device))
        segment_losses(output, batch.labels, target, "stablemax_cross_entropy").total.backward()
        model.zero_grad()
    if device == "cuda":
        torch.cuda.synchronize()
    return sum(len(batch.tokens) for batch in batches) / (time.perf_counter() - start_time)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--batches", type=int, default=26, help="of the bucketed variants a repeat")
    parser.add_argument("--full-batches", type=int, default=3, help="of the full variants a repeat; all cost the same")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = Reasoner(MODEL).to(device)
    batches = {
        full_canvas: [
            Batch(*(part.to(device) for part in batch))
            for batch in draw_batches(args.full_batches if full_canvas else args.batches, args.batch, full_canvas, 0)
        ]
        for full_canvas in (True, False)
    }
    variants = {
        "full, float32": (model, True, False),
        "full, bfloat16": (model, True, True),
        "bucket, float32": (model, False, False),
        "bucket, bfloat16": (model, False, True),
    }
    if args.compile:
        compiled = torch.compile(model, dynamic=True)
        variants["bucket, bfloat16, compiled"] = (compiled, False, True)
    for variant, full_canvas, autocast in variants.values():  # warm up
        some = batches[full_canvas][:: max(1, len(batches[full_canvas]) // 3)]
        measure_rate(variant, some, autocast, device)
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(args.repeats):
        for name, (variant, full_canvas, autocast) in variants.items():
            rates[name].append(measure_rate(variant, batches[full_canvas], autocast, device))
    baseline = rates["full, float32"]
    print(f"{device}, {torch.get_num_threads()} threads, batch {args.batch}, median of {args.repeats}")
    for name, repeats in rates.items():
        ratios = [rate / base for rate, base in zip(repeats, baseline, strict=True)]
        print(
            f"{name:28s} {median(repeats):8.2f} samples/s   {median(ratios):5.2f} x  ({min(ratios):.2f} to "
            f"{max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
