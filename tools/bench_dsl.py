"""How long primitives take, and how many programs a second the search tests.

    uv run tools/bench_dsl.py

Primitives: one call on a 10 x 10 grid (or what its objects are), median over drawn grids of the least of five timings,
none twice on one grid, so that nothing is remembered. Search: tasks of arc1:train, a fixed choice, one process.
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


def drawn(rng: np.random.Generator) -> Array:
    """A 10 x 10 grid with objects in three colours."""
    blocks = rng.integers(1, 4, (5, 5)) * (rng.random((5, 5)) < 0.4)
    return blocks.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)


def examples(kind: Kind, rng: np.random.Generator) -> list[Value]:
    """Values of a kind, each of another grid."""
    grids = [drawn(rng) for _ in range(_GRIDS)]
    if kind is Kind.MASK:
        return [(grid != 0).astype(np.uint8) for grid in grids]
    if kind in (Kind.GRID, Kind.FIELD):
        return list(grids)
    found = [objects for objects in map(components, grids) if isinstance(objects, Objects)]
    return list(found) if kind is Kind.OBJECTS else [objects.items[0] for objects in found]


def primitive_times() -> dict[str, float]:
    """Microseconds a call, by primitive; of those with a measure or function, the dearest."""
    times: dict[str, float] = {}
    operators = build_operators([1, 2], {})
    for kind in (Kind.GRID, Kind.MASK, Kind.OBJECT, Kind.OBJECTS):
        for operator in operators.unary[kind]:
            best = []
            for repeat in range(5):
                values = examples(kind, np.random.default_rng(repeat))
                began = time.perf_counter()
                for value in values:
                    operator.apply(value)
                best.append((time.perf_counter() - began) / len(values))
            name = operator.primitive.name
            times[name] = max(times.get(name, 0.0), 1e6 * min(best))
    for (first, second), found in operators.binary.items():
        if Kind.COLOR in (first, second) or Kind.INT in (first, second):
            continue
        for operator in found:
            one, other = examples(first, np.random.default_rng(1)), examples(second, np.random.default_rng(2))
            began = time.perf_counter()
            for a, b in zip(one, other, strict=False):
                operator.apply(a, b)
            times[operator.primitive.name] = 1e6 * (time.perf_counter() - began) / min(len(one), len(other))
    return times


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=4.0, help="for a task")
    args = parser.parse_args()
    times = primitive_times()
    ranked = sorted(times.items(), key=lambda item: item[1])
    print(f"{len(times)} primitives: median {median(times.values()):.1f} us a call (target 15)")
    print("slowest: " + ", ".join(f"{name} {micros:.0f}" for name, micros in ranked[-8:]))
    tasks = load_tasks("arc1:train")
    chosen = tasks[:: len(tasks) // args.tasks][: args.tasks]
    outcomes = [Search(task.without_answers(), Limits(seconds=args.seconds)).run() for task in chosen]
    seconds = sum(outcome.seconds for outcome in outcomes)
    tested, refused = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("tested", "refused"))
    novel = sum(outcome.novel for outcome in outcomes)
    print(
        f"{len(chosen)} tasks: {tested / seconds:,.0f} programs a second on all demonstrations and tests (target "
        f"10,000), {refused / seconds:,.0f} more refused; {novel / tested:.2f} gave values not seen before"
    )


if __name__ == "__main__":
    main()
