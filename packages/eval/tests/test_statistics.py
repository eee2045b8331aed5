from math import comb, sqrt

import numpy as np
import pytest
from scipy.stats import bootstrap

from arc_eval.scoring.statistics import PairedBootstrap, holm_adjust, mcnemar_p_value, wilson_interval


def test_intervals_agree_with_scipys_bootstrap() -> None:
    rng = np.random.default_rng(3)
    values = np.stack([rng.random(200) < 0.3, rng.random(200) < 0.2, rng.random(200)], axis=1).astype(float)
    ours = PairedBootstrap(values)
    for method in range(3):
        theirs = bootstrap(
            (values[:, method],), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(1)
        ).confidence_interval
        assert ours.interval(method) == pytest.approx(tuple(theirs), abs=0.006)
    theirs = bootstrap(
        (values[:, 0] - values[:, 2],), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.difference(0, 2) == pytest.approx(tuple(theirs), abs=0.006)


def test_differences_of_paired_methods_are_surer_than_their_scores() -> None:
    base = np.random.default_rng(0).random(300) < 0.5
    better = base.copy()
    better[np.flatnonzero(~base)[:9]] = True  # nine tasks more, and none fewer
    ours = PairedBootstrap(np.stack([better, base], axis=1).astype(float))
    low, high = ours.difference(0, 1)
    assert 0 < low < 0.03 < high
    assert high - low < 0.5 * (ours.interval(0)[1] - ours.interval(0)[0])


def test_draws_depend_on_the_seed_alone() -> None:
    values = np.random.default_rng(0).random((50, 2))
    assert PairedBootstrap(values, 1).interval(0) == PairedBootstrap(values, 1).interval(0)
    assert PairedBootstrap(values, 1).interval(0) != PairedBootstrap(values, 2).interval(0)


@pytest.mark.parametrize(("successes", "trials"), [(0, 23), (5, 23), (23, 23), (92, 400)])
def test_wilsons_interval_is_its_closed_form(successes: int, trials: int) -> None:
    z, share = 1.959963984540054, successes / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    low, high = wilson_interval(successes, trials)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-9)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 0), (1, 9), (7, 7), (30, 12)])
def test_mcnemar_sums_the_binomial_tails(first: int, second: int) -> None:
    trials, least = first + second, min(first, second)
    tail = sum(comb(trials, k) for k in range(least + 1)) / 2**trials
    assert mcnemar_p_value(first, second) == pytest.approx(min(1.0, 2 * tail) if trials else 1.0)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1 gives 0.04, 0.06, 0.06, 0.04, and none may fall.
    assert holm_adjust([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm_adjust([0.5, 0.9]) == [1.0, 1.0]
    assert holm_adjust([]) == []
