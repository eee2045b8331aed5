"""Measures pairs augmented per second by `TaskTensors.gather` on bucketed canvases and by a numpy loop over grids.

    uv run tools/bench_augment.py

The loop works as data loaders for ARC usually do, one pair at a time: it rotates, flips, permutes the colours and pads
to 30x30. Both get the same random pairs of arc1:train and the same views, and their results are compared by cell.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from arc_core.augment import random_color_tables
from arc_core.datasets import load_tasks
from arc_core.grid import MAX_SIDE, Grid
from arc_core.randomness import generator_for
from arc_core.tensors import OUTSIDE, TaskTensors, canvas_for


def pad(grid: Grid) -> Grid:
    canvas = np.full((MAX_SIDE, MAX_SIDE), OUTSIDE, dtype=np.uint8)
    canvas[: grid.shape[0], : grid.shape[1]] = grid
    return canvas


def augment_one_by_one(grids: list[Grid], pairs: np.ndarray, elements: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Augments pairs in a numpy loop.

    Args:
        grids: input and output of every pair of the data set in turn.
        pairs: (P,) indices of the pairs to augment.
        elements: (P,) dihedral elements.
        colors: (P, 10) uint8 colour permutations.
    Returns:
        (P, 2, 30, 30) uint8.
    """
    result = np.empty((len(pairs), 2, MAX_SIDE, MAX_SIDE), dtype=np.uint8)
    for row, (pair, element) in enumerate(zip(pairs, elements, strict=True)):
        for side in (0, 1):
            grid = grids[2 * pair + side]
            if element >= 4:
                grid = grid.T
            grid = np.rot90(grid, element % 4)
            result[row, side] = pad(colors[row][grid])
    return result


def augment_in_batches(
    tensors: TaskTensors, pairs: np.ndarray, elements: np.ndarray, colors: np.ndarray, batch: int
) -> list[tuple[np.ndarray, torch.Tensor]]:
    """Augments the same pairs by `TaskTensors.gather`.

    Args:
        tensors: grids of the data set.
        pairs, elements, colors: as for `augment_one_by_one`.
        batch: pairs in a batch.
    Returns:
        Positions of each batch's pairs in `pairs`, and their (2 batch, S, S) canvases, inputs and outputs in turn.
    """
    grids = np.stack([2 * pairs, 2 * pairs + 1], axis=1)  # (pairs, 2)
    longest = tensors.grid_sizes[grids].max(axis=(1, 2))
    order = np.argsort(longest, kind="stable")
    batches = []
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        canvas, _ = tensors.gather(
            torch.from_numpy(grids[rows].ravel()),
            torch.from_numpy(elements[rows].repeat(2)),
            torch.from_numpy(colors[rows].repeat(2, axis=0)),
            canvas_for(int(longest[rows].max())),
        )
        batches.append((rows, canvas))
    return batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=16384)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()

    tasks = load_tasks("arc1:train")
    tensors = TaskTensors.from_tasks(tasks)
    grids = [g for task in tasks for pair in task.train + task.test for g in (pair.input, pair.output)]
    rng = generator_for(0, "bench", 0)
    pairs = rng.integers(len(grids) // 2, size=args.pairs)
    elements = rng.integers(8, size=args.pairs)
    colors = random_color_tables(rng, args.pairs)

    expected = augment_one_by_one(grids, pairs, elements, colors)
    for rows, canvas in augment_in_batches(tensors, pairs, elements, colors, args.batch):
        side = canvas.shape[-1]
        actual = canvas.view(len(rows), 2, side, side).numpy()
        assert (actual == expected[rows, :, :side, :side]).all()

    loop_rates, batch_rates = [], []
    for _ in range(args.repeats):  # interleaved, so that a slow moment of the machine affects both
        start = time.perf_counter()
        augment_one_by_one(grids, pairs, elements, colors)
        middle = time.perf_counter()
        augment_in_batches(tensors, pairs, elements, colors, args.batch)
        end = time.perf_counter()
        loop_rates.append(args.pairs / (middle - start))
        batch_rates.append(args.pairs / (end - middle))
    ratio = statistics.median(b / a for a, b in zip(loop_rates, batch_rates, strict=True))
    print(f"numpy loop   {statistics.median(loop_rates):12,.0f} pairs/s")
    print(f"batched      {statistics.median(batch_rates):12,.0f} pairs/s  ({torch.get_num_threads()} threads)")
    print(f"ratio        {ratio:12.1f}")


if __name__ == "__main__":
    main()
