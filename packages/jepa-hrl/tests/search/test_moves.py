"""Moves are what their programs are, ranked by probability, and the policy-guided search expands them in that order."""

from collections.abc import Sequence

import numpy as np
import pytest

from jepa_hrl.dsl.program import Call, evaluate
from jepa_hrl.dsl.types import Array, grid
from jepa_hrl.search.moves import STEP_NAMES, Move, Moves, make_move, rank_moves
from jepa_hrl.search.policy_guided import policy_guided_search


def test_moves_are_a_distribution_likeliest_first() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=len(STEP_NAMES))
    bits = -np.log2(np.exp(logits) / np.exp(logits).sum())
    moves = rank_moves(bits, 0.5, frozenset({1, 3}), frozenset({3, 4}))
    assert sum(2.0**-cost for cost in moves.bits) == pytest.approx(1.0)
    assert list(moves.bits) == sorted(moves.bits)
    cost = {str(move.program): bits for move, bits in zip(moves.moves, moves.bits, strict=True)}
    assert cost["drop_color(input, 1)"] < cost["drop_color(input, 3)"]  # the outputs have no 1
    assert cost["keep_color(input, 3)"] < cost["keep_color(input, 1)"]
    assert cost["fill_black(input, 4)"] < cost["fill_black(input, 1)"]
    assert "drop_color(input, 4)" not in cost


def test_moves_do_what_their_programs_do() -> None:
    source = grid("1020/0330/1320/0001")
    for move in rank_moves(np.zeros(len(STEP_NAMES)), 0.0, frozenset({1, 2, 3}), frozenset({4})).moves:
        value, expected = move.apply(source), evaluate(move.program, source)
        assert type(value) is type(expected)
        assert not isinstance(value, np.ndarray) or np.array_equal(value, expected)  # type: ignore[arg-type]
        assert isinstance(move.expression(move.program), Call)
        assert move.size == move.program.size


def test_a_move_acts_with_its_colour() -> None:
    source = grid("1110/1011/1110/0022")
    assert np.array_equal(make_move("drop_color", 2).apply(source), grid("1110/1011/1110/0000"))  # type: ignore[arg-type]
    assert np.array_equal(make_move("keep_color", 2).apply(source), grid("0000/0000/0000/0022"))  # type: ignore[arg-type]
    assert np.array_equal(make_move("flood_fill", 5).apply(source), grid("1110/1511/1110/0022"))  # type: ignore[arg-type]


class ChainPolicy:
    """A policy that prefers one step at each value of a chain; counts how often it is asked."""

    def __init__(self, next_steps: Sequence[str], share: float) -> None:
        self.next_steps, self.share, self.calls = next_steps, share, 0

    def predict_moves(self, values: Sequence[Sequence[Array]]) -> list[Moves]:
        self.calls += 1
        unlikely = np.full(len(STEP_NAMES), -np.log2((1 - self.share) / (len(STEP_NAMES) - 1)))
        ranked = []
        for value in values:
            bits = unlikely.copy()
            step = self.next_steps[int(value[0][0, 0]) % len(self.next_steps)]
            bits[STEP_NAMES.index(step)] = -np.log2(self.share)
            ranked.append(rank_moves(bits, 0.0, frozenset({1}), frozenset({1})))
        return ranked


def test_values_are_expanded_by_the_probability_of_the_steps_to_them() -> None:
    chain = ["grow", "hollow", "grow"]
    policy = ChainPolicy(chain, 0.5)
    tried: list[tuple[int, int, str]] = []  # calls of the policy so far, value, program
    successors = {(0, "grow(input)"): 1, (1, "hollow(input)"): 2, (2, "hollow(input)"): 1}

    def apply(value: int, move: Move) -> int | None:
        tried.append((policy.calls, value, str(move.program)))
        return successors.get((value, str(move.program)))

    values = [[np.full((1, 1), number, dtype=np.uint8)] for number in range(3)]
    policy_guided_search(policy, 0, values.__getitem__, apply, lambda: False)
    assert len(set(tried)) == len(tried)  # no move is tried twice
    assert {value for _, value, _ in tried} == {0, 1, 2}
    path_bits = [0.0, 1.0, 2.0]  # each step of the chain has a probability of a half
    for calls in range(1, policy.calls + 1):
        batch = [(value, program) for call, value, program in tried if call == calls]
        costs = []
        for value, program in batch:
            ((moves),) = ChainPolicy(chain, 0.5).predict_moves([values[value]])
            names = [str(move.program) for move in moves.moves]
            costs.append(path_bits[value] + moves.bits[names.index(program)])
        assert costs == sorted(costs)
        newest = batch[0][0]
        assert batch[0][1] == f"{chain[newest]}(input)"
