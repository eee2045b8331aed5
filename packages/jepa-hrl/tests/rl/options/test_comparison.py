"""When options count as worth having."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jepa_hrl.rl.options.comparison import OptionsComparison, compare_options
from jepa_hrl.rl.policy.evaluation import EpisodeOutcomes


def outcomes_of(decisions: Sequence[int], actions: int, solved: Sequence[bool]) -> EpisodeOutcomes:
    """The outcomes on tasks of programs of three actions and, the last, of one."""
    count = len(decisions)
    program_length = np.array([3] * (count - 1) + [1])
    grounded = np.array(solved)
    done = np.full(count, actions)
    return EpisodeOutcomes(grounded, grounded, done, np.array(decisions), program_length, np.zeros(count))


def test_options_are_worth_having_if_chosen_ones_save_decisions_beyond_chance() -> None:
    everything = [True] * 9
    plain = outcomes_of([3] * 9, 3, everything)
    one_less = outcomes_of([2, 3, 2, 2, 2, 3, 2, 2, 9], 3, everything)
    comparison = compare_options([plain, plain], [one_less, plain])
    assert (comparison.both, comparison.decisions_saved, comparison.used) == (8, 6 / 16, 6 / 16)
    assert comparison.is_beneficial
    assert comparison.decisions_saved_95 is not None
    low, high = comparison.decisions_saved_95
    assert 0 < low < 6 / 16 < high <= 0.5
    assert comparison.sentence.startswith("the options are worth having")
    by_chance = outcomes_of([2, 4, 3, 3, 2, 4, 2, 3, 1], 3, everything)
    fewer_solved = outcomes_of([2] * 9, 3, [False, *everything[1:]])
    never_chosen = outcomes_of([2] * 9, 2, everything)
    for using in (plain, by_chance, fewer_solved, never_chosen):
        assert compare_options([plain], [using]).sentence.startswith("the options are not worth having")
    nothing = outcomes_of([3] * 9, 3, [False] * 9)
    assert compare_options([plain], [nothing]).decisions_saved_95 is None


def test_the_comparison_is_stored_under_the_names_that_its_readers_know() -> None:
    comparison = OptionsComparison(0.5, 0.75, 0.25, 4, 0.5, (0.25, 1.0))
    assert comparison.to_json() == {
        "success_without": 0.5, "success": 0.75, "used": 0.25, "both": 4, "fewer": 0.5, "fewer_95": [0.25, 1.0]
    }  # fmt: skip
    assert replace(comparison, decisions_saved_95=None).to_json()["fewer_95"] is None
