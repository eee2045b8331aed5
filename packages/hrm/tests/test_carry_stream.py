"""The stream of examples into the carries."""

import numpy as np
import pytest
import torch

from hrm.carry_stream import CarryStream
from hrm.data.batches import choose_canvas
from hrm.data.identities import Examples


@pytest.fixture
def examples() -> Examples:
    """10 examples of the canvas of side 4, then 7 of that of side 10."""
    return Examples(np.zeros(17, dtype=np.int64), np.arange(17), np.array([3] * 10 + [9] * 7))


def test_every_example_of_a_canvas_enters_once_before_any_enters_again(examples: Examples) -> None:
    stream = CarryStream(examples, 4, 0, full_canvas=False)
    carry = stream.create_carry(4, torch.device("cpu"))
    entered = []
    for step in range(5):
        stream.refill(carry, 4, step)
        entered += carry.examples.tolist()
    assert sorted(entered[:10]) == sorted(entered[10:]) == list(range(10))
    assert entered[:10] != entered[10:]  # another order in the second epoch


def test_a_refill_replaces_only_halted_sequences_and_continues_the_epoch(examples: Examples) -> None:
    stream = CarryStream(examples, 4, 0, full_canvas=False)
    carry = stream.create_carry(4, torch.device("cpu"))
    stream.refill(carry, 4, 0)
    entered = carry.examples.tolist()
    carry.halted = np.array([False, True, False, False])
    for step in range(1, 7):
        before, offsets_before = carry.examples.copy(), carry.offsets.copy()
        stream.refill(carry, 4, step)
        others = [0, 2, 3]
        assert carry.examples[others].tolist() == before[others].tolist()
        assert np.array_equal(carry.offsets[others], offsets_before[others])
        assert not np.array_equal(carry.offsets[1], offsets_before[1])
        entered.append(int(carry.examples[1]))
    assert sorted(entered) == list(range(10))
    assert carry.examples_drawn == 10


def test_what_enters_depends_on_the_seed_and_on_how_many_entered_before_alone(examples: Examples) -> None:
    def refill(seed: int, drawn: int) -> list[int]:
        stream = CarryStream(examples, 4, seed, full_canvas=False)
        carry = stream.create_carry(4, torch.device("cpu"))
        carry.examples_drawn = drawn
        stream.refill(carry, 10, 3)
        return carry.examples.tolist()

    assert refill(0, 5) == refill(0, 5)
    assert refill(0, 5) != refill(1, 5)
    assert set(refill(0, 0)) | set(refill(0, 3)) == set(range(10, 17))  # positions 0..3 and 3..6 of one epoch of 7


def test_canvases_are_drawn_in_proportion_to_their_examples(examples: Examples) -> None:
    stream = CarryStream(examples, 4, 0, full_canvas=False)
    assert stream.sides == (4, 10)
    canvases = [stream.draw_canvas(step) for step in range(400)]
    assert 0.5 < np.mean(np.array(canvases) == 4) < 0.68  # 10 of 17
    assert CarryStream(examples, 4, 0, full_canvas=True).sides == (30,)
    assert choose_canvas(np.array([1, 4, 29, 30])).tolist() == [4, 6, 30, 30]
