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
from hrm.data.batches import build_batch, canvas_of
from hrm.data.identities import Identities, make_examples
from hrm.losses import segment_losses
from hrm.model.halting import Batch, go_on_target
from hrm.model.reasoner import Reasoner

MODEL = ModelConfig(
    hidden_size=256, num_heads=8, H_layers=2, L_layers=2, H_cycles=2, L_cycles=2, puzzle_emb_ndim=256, halt_max_steps=16
)


def batches(number: int, size: int, full: bool, seed: int) -> list[Batch]:
    """Batches whose pairs are drawn as training draws them: a canvas in proportion to its pairs, then pairs of it."""
    tasks = load_tasks("arc1:train")
    tensors = TaskTensors.from_tasks(tasks)
    identities = Identities.of([task.task_id for task in tasks], 0, 0)
    examples, _ = make_examples(tensors, identities, 0)
    rng = np.random.default_rng(seed)
    # Systematic sampling over the sorted pairs: every run of batches has the whole set's mix of sizes.
    order = rng.permutation(len(examples))
    order = order[np.argsort(canvas_of(examples.sides)[order], kind="stable")]
    places = ((np.arange(number) + rng.random()) / number * len(order)).astype(int)
    found = []
    for place in places:
        side = int(canvas_of(examples.sides[order[place : place + 1]])[0])
        members = np.flatnonzero(canvas_of(examples.sides) == side)
        chosen = examples.rows(rng.choice(members, size))
        found.append(build_batch(tensors, identities, chosen, 30 if full else side, MODEL.prefix_tokens, None))
    return found


def measure(model: Reasoner, work: list[Batch], autocast: bool, device: str) -> float:
    """Samples a second."""
    begun = time.perf_counter()
    for batch in work:
        precision = torch.autocast(device, torch.bfloat16) if autocast else nullcontext()
        puzzles = torch.zeros(len(batch.tokens), MODEL.puzzle_emb_ndim, device=device, requires_grad=True)
        with precision:
            state, answer = model(model.start(*batch.tokens.shape), batch.tokens, puzzles, batch.positions)
            target = go_on_target(model, state, batch, puzzles, torch.ones(len(batch.tokens), device=device))
        segment_losses(answer, batch.labels, target, "stablemax_cross_entropy").total.backward()
        model.zero_grad()
    if device == "cuda":
        torch.cuda.synchronize()
    return sum(len(batch.tokens) for batch in work) / (time.perf_counter() - begun)


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
    work = {
        full: [
            Batch(*(part.to(device) for part in batch))
            for batch in batches(args.full_batches if full else args.batches, args.batch, full, 0)
        ]
        for full in (True, False)
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
    for chosen, full, autocast in variants.values():  # warm up
        measure(chosen, work[full][:: max(1, len(work[full]) // 3)], autocast, device)
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(args.repeats):
        for name, (chosen, full, autocast) in variants.items():
            rates[name].append(measure(chosen, work[full], autocast, device))
    first = rates["full, float32"]
    print(f"{device}, {torch.get_num_threads()} threads, batch {args.batch}, median of {args.repeats}")
    for name, found in rates.items():
        ratios = [rate / base for rate, base in zip(found, first, strict=True)]
        print(
            f"{name:28s} {median(found):8.2f} samples/s   {median(ratios):5.2f} x  ({min(ratios):.2f} to "
            f"{max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
