"""The cache of transitions."""

import numpy as np

from jepa_hrl.rl.environment.transition_cache import TransitionCache, grid_hash
from jepa_hrl.world_model.actions import ActionSet


def test_equal_grids_have_one_id(transitions: TransitionCache) -> None:
    grid = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    grid_id = transitions.intern(grid)
    assert transitions.intern(grid.copy()) == grid_id and np.array_equal(transitions.grids[grid_id], grid)
    assert transitions.intern(grid.reshape(1, 4)) != grid_id and len(transitions) == 2


def test_legal_actions_are_those_that_change_the_grid(transitions: TransitionCache, actions: ActionSet) -> None:
    flip, turn = actions.indices["flip_horizontal"], actions.indices["rotate_90"]
    grid = np.array([[1, 2, 1]], dtype=np.uint8)
    changes, result_hashes = transitions.legal_actions([transitions.intern(grid)])
    assert not changes[0, flip] and result_hashes[0, flip] == 0
    assert changes[0, turn] and result_hashes[0, turn] == grid_hash(np.rot90(grid))


def test_a_cache_makes_room_for_any_number_of_grids(transitions: TransitionCache) -> None:
    digits = [[n // 100, n // 10 % 10, n % 10] for n in range(1000)]
    rows = [transitions.intern(np.array([digit], dtype=np.uint8)) for digit in digits]
    columns = [transitions.intern(np.array([digit], dtype=np.uint8).T.copy()) for digit in digits]
    grid_ids = rows + columns
    first = [transitions.legal_actions([grid_id])[0] for grid_id in grid_ids]
    for grid_id, before in zip(grid_ids, first, strict=True):
        assert np.array_equal(transitions.legal_actions([grid_id])[0], before)
    transitions.forget()
    assert len(transitions) == 0
