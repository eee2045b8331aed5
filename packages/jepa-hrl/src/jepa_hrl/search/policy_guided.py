"""Search led by a policy of steps: values are taken up by the probability of the steps to them.

Source: Levin tree search, Orseau et al. 2018, arXiv:1811.10928, with the policy's probability alone as the order, and
a value's children put off by the doubt that the value leads anywhere.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Protocol

from jepa_hrl.dsl.types import Array
from jepa_hrl.search.moves import Move, Moves

_TOGETHER = 16  # values that the policy looks at in one pass


class Policy(Protocol):
    """What tells the likely next steps on the way to a task's outputs."""

    def moves(self, values: Sequence[Sequence[Array]]) -> list[Moves]:
        """What may be done to each value: grids for all inputs, demonstrations first."""
        ...


def follow(
    policy: Policy,
    start: int,
    value_of: Callable[[int], Sequence[Array]],
    apply: Callable[[int, Move], int | None],
    has_ended: Callable[[], bool],
) -> None:
    """Takes up values from a first one on until the search has ended or nothing is left.

    Args:
        start: number of the first value.
        value_of: a value by its number.
        apply: does a move to a value and gives the number of what comes of it, None if that is of no use.
    """
    heap: list[tuple[float, int, int, int]] = []  # bits, number of pushes, value, place among its moves
    known: dict[int, tuple[float, Moves]] = {}
    taken, pushed = {start}, 0
    fresh = [(start, 0.0)]

    def push(number: int, place: int) -> None:
        nonlocal pushed
        bits, moves = known[number]
        if place < len(moves.moves):
            pushed += 1
            heappush(heap, (bits + float(moves.bits[place]) + moves.doubt, pushed, number, place))

    while fresh or heap:
        found = policy.moves([value_of(number) for number, _ in fresh]) if fresh else []
        for (number, bits), moves in zip(fresh, found, strict=True):
            known[number] = bits, moves
            push(number, 0)
        fresh = []
        while heap and len(fresh) < _TOGETHER:
            if has_ended():
                return
            _, _, number, place = heappop(heap)
            push(number, place + 1)
            bits, moves = known[number]
            after = apply(number, moves.moves[place])
            if after is not None and after not in taken:
                taken.add(after)
                fresh.append((after, bits + float(moves.bits[place])))
