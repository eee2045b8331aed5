"""Policy-guided search: values are expanded in the order of the probability that a policy gives the path to them.

Source: Levin tree search, Orseau et al. 2018, arXiv:1811.10928.
Differs: the order is the policy's probability alone, without the depth, and a value's children are put off by the bits
of the probability that the value leads to the outputs at all.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Protocol

from jepa_hrl.dsl.types import Array
from jepa_hrl.search.moves import Move, Moves

_BATCH = 16  # values that the policy evaluates in one forward pass


class Policy(Protocol):
    """Predicts the next steps on the path from a value to a task's outputs."""

    def predict_moves(self, values: Sequence[Sequence[Array]]) -> list[Moves]:
        """Returns the moves from each value, which is given by its grids for all inputs, demonstrations first."""
        ...


def policy_guided_search(
    policy: Policy,
    root: int,
    grids_of: Callable[[int], Sequence[Array]],
    apply: Callable[[int, Move], int | None],
    should_stop: Callable[[], bool],
) -> None:
    """Expands values, the most probable first, until `should_stop` is true or no move is left.

    Args:
        policy: predicts the moves from a value.
        root: the node at which the search starts.
        grids_of: returns a node's grids for all inputs.
        apply: applies a move to a node; returns the node of the result, or None if it is of no use.
        should_stop: asked before each move.
    """
    heap: list[tuple[float, int, int, int]] = []  # bits, number of pushes, node, index of the move
    expanded: dict[int, tuple[float, Moves]] = {}  # bits of the path to a node, and its moves
    reached, pushes = {root}, 0
    fresh = [(root, 0.0)]  # nodes that the policy has not evaluated, with the bits of their paths

    def push(node: int, move_index: int) -> None:
        nonlocal pushes
        bits, moves = expanded[node]
        if move_index < len(moves.moves):
            pushes += 1
            heappush(heap, (bits + float(moves.bits[move_index]) + moves.dead_end_bits, pushes, node, move_index))

    while fresh or heap:
        predictions = policy.predict_moves([grids_of(node) for node, _ in fresh]) if fresh else []
        for (node, bits), moves in zip(fresh, predictions, strict=True):
            expanded[node] = bits, moves
            push(node, 0)
        fresh = []
        while heap and len(fresh) < _BATCH:
            if should_stop():
                return
            _, _, node, move_index = heappop(heap)
            push(node, move_index + 1)
            bits, moves = expanded[node]
            child = apply(node, moves.moves[move_index])
            if child is not None and child not in reached:
                reached.add(child)
                fresh.append((child, bits + float(moves.bits[move_index])))
