"""Benchmarks the time of primitives and the number of programs that the search tests per second.

    uv run tools/bench_dsl.py

Primitives: the mean time of one call on random 10 x 10 grids or on their objects, for primitives of one value the least
of five runs. No grid occurs twice, so that caches do not help. Search: a fixed choice of tasks of arc1:train, in one
process.
"""

import argparse
import time
from statistics import median

import numpy as np

from arc_core.datasets import load_tasks
from jepa_hrl.dsl.primitives.objects import components
from jepa_hrl.dsl.types import Array, Kind, Objects, Value
from jepa_hrl.search.engine import Limits, Search
from jepa_hrl.search.operators import build_operators

_GRIDS = 40


def draw_grid(rng: np.random.Generator) -> Array:
    """Draws a 10 x 10 grid with objects in three colours."""
    blocks = rng.integers(1, 4, (5, 5)) * (rng.random((5, 5)) < 0.4)
    return blocks.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)


def draw_values(kind: Kind, rng: np.random.Generator) -> list[Value]:
    """Draws values of a kind, each from another grid."""
    grids = [draw_grid(rng) for _ in range(_GRIDS)]
    if kind is Kind.MASK:
        return [(grid != 0).astype(np.uint8) for grid in grids]
    if kind in (Kind.GRID, Kind.FIELD):
        return list(grids)
    segmented = [objects for objects in map(components, grids) if isinstance(objects, Objects)]
    return list(segmented) if kind is Kind.OBJECTS else [objects.items[0] for objects in segmented]


def time_primitives() -> dict[str, float]:
    """Returns microseconds per call by primitive; of a primitive with a measure or function, those of the slowest."""
    times: dict[str, float] = {}
    operators = build_operators([1, 2], {})
    for kind in (Kind.GRID, Kind.MASK, Kind.OBJECT, Kind.OBJECTS):
        for operator in operators.unary[kind]:
            seconds = []
            for repeat in range(5):
                values = draw_values(kind, np.random.default_rng(repeat))
                start = time.perf_counter()
                for value in values:
                    operator.apply(value)
                seconds.append((time.perf_counter() - start) / len(values))
            name = operator.primitive.name
            times[name] = max(times.get(name, 0.0), 1e6 * min(seconds))
    for (first, second), binary in operators.binary.items():
        if Kind.COLOR in (first, second) or Kind.INT in (first, second):
            continue
        for operator in binary:
            left, right = draw_values(first, np.random.default_rng(1)), draw_values(second, np.random.default_rng(2))
            start = time.perf_counter()
            for a, b in zip(left, right, strict=False):
                operator.apply(a, b)
            times[operator.primitive.name] = 1e6 * (time.perf_counter() - start) / min(len(left), len(right))
    return times


def main() -> None:
    """Runs both benchmarks and prints their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=24, help="how many tasks are searched (default: 24)")
    parser.add_argument("--seconds", type=float, default=4.0, help="limit for each task (default: 4)")
    args = parser.parse_args()
    times = time_primitives()
    ranked = sorted(times.items(), key=lambda item: item[1])
    print(f"{len(times)} primitives: median {median(times.values()):.1f} us a call (target 15)")
    print("slowest: " + ", ".join(f"{name} {micros:.0f}" for name, micros in ranked[-8:]))
    every_task = load_tasks("arc1:train")
    tasks = every_task[:: len(every_task) // args.tasks][: args.tasks]
    outcomes = [Search(task.without_answers(), Limits(seconds=args.seconds)).run() for task in tasks]
    seconds = sum(outcome.seconds for outcome in outcomes)
    tested, refused = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("tested", "refused"))
    novel = sum(outcome.novel for outcome in outcomes)
    print(
        f"{len(tasks)} tasks: {tested / seconds:,.0f} programs a second on all demonstrations and tests (target "
        f"10,000), {refused / seconds:,.0f} more refused; {novel / tested:.2f} gave values not seen before"
    )


if __name__ == "__main__":
    main()
