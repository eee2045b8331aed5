import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_core.randomness import generator_for, seed_for
from arc_core.sampling import BatchPlan, epoch_batches


def plan(samples: int = 103, batch_size: int = 8, seed: int = 3) -> BatchPlan:
    def sizes_of(epoch: int) -> np.ndarray:
        return generator_for(seed, "sizes", epoch).integers(1, 31, samples)

    return BatchPlan(sizes_of, samples, batch_size, seed)


def test_a_generator_depends_on_seed_stream_and_step_alone() -> None:
    draws = [generator_for(*key).integers(2**60) for key in ((0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1))]
    assert len(set(draws)) == 4
    assert generator_for(0, "a", 0).integers(2**60) == draws[0]
    assert 0 <= seed_for(5, "x", 7) < 2**63


def test_steps_do_not_share_random_blocks() -> None:
    first = generator_for(0, "a", 0).integers(2**63, size=5000)
    second = generator_for(0, "a", 1).integers(2**63, size=5000)
    assert not set(first.tolist()) & set(second.tolist())


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    forward = [plan().batch(step)[1] for step in range(40)]
    other = plan()
    for step in reversed(range(40)):
        assert np.array_equal(other.batch(step)[1], forward[step])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_one_global_batch(world: int) -> None:
    for step in range(30):
        whole = plan().batch(step)[1]
        shares = [plan().batch(step, rank, world)[1] for rank in range(world)]
        assert all(len(share) == len(whole) // world for share in shares)
        assert np.array_equal(np.stack(shares, axis=1).ravel(), whole)


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a multiple of the 3 processes"):
        plan().batch(0, 0, 3)


@given(st.lists(st.integers(1, 8), min_size=1, max_size=60), st.integers(1, 9))
def test_every_sample_of_an_epoch_appears_and_batches_are_full(sizes: list[int], batch_size: int) -> None:
    batches = epoch_batches(np.array(sizes), batch_size, np.random.default_rng(0))
    assert batches.shape == (-(-len(sizes) // batch_size), batch_size)
    assert set(batches.ravel().tolist()) == set(range(len(sizes)))


def test_batches_hold_samples_of_like_size_in_random_order() -> None:
    sizes = np.random.default_rng(0).integers(1, 31, 800)
    batches = sizes[epoch_batches(sizes, 8, np.random.default_rng(1))]
    assert np.ptp(batches, axis=1).mean() < 1
    assert np.corrcoef(np.arange(len(batches)), batches.mean(axis=1))[0, 1] < 0.3


def test_epochs_differ() -> None:
    steps = plan().steps_per_epoch
    assert plan().batch(0)[0] == 0
    assert plan().batch(steps)[0] == 1
    assert not np.array_equal(plan().batch(0)[1], plan().batch(steps)[1])
