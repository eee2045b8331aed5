"""Intervals and tests over tasks.

A task is the unit that is drawn: methods answer the same ones, so differences are paired.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

Floats = npt.NDArray[np.float64]

_RESAMPLES = 10_000
_AT_ONCE = 500  # of them
_TAILS = (2.5, 97.5)  # percent, of a 95% interval


class PairedBootstrap:
    """Resampled means of several methods over the same draws of tasks.

    One set of draws serves all methods, so the difference of two columns is a resampled paired difference.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 13.3 (percentile interval).
    """

    def __init__(self, values: Floats, seed: int = 0) -> None:
        """Draws.

        Args:
            values: (tasks, methods).
            seed: of the draws.
        """
        tasks = len(values)
        rng = np.random.default_rng(seed)
        shares = np.full(tasks, 1 / tasks)
        # A few draws at once: all of them take 80 kB a task.
        parts = [rng.multinomial(tasks, shares, size=_AT_ONCE) @ values for _ in range(_RESAMPLES // _AT_ONCE)]
        self._means = np.concatenate(parts) / tasks

    def interval(self, method: int) -> tuple[float, float]:
        """95% interval of a method's mean."""
        return _percentiles(self._means[:, method])

    def difference(self, first: int, second: int) -> tuple[float, float]:
        """95% interval of the first method's mean less the second's."""
        return _percentiles(self._means[:, first] - self._means[:, second])


def _percentiles(means: Floats) -> tuple[float, float]:
    low, high = np.percentile(means, _TAILS)
    return float(low), float(high)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95% interval of a proportion (Wilson); wider than nothing even where no trial, or every one, succeeded."""
    found = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p that two methods solve equally many, from the tasks that one of them alone solves."""
    differing = only_first + only_second
    return float(binomtest(only_first, differing).pvalue) if differing else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing them all (Holm 1979), in their order."""
    adjusted = [0.0] * len(values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(values)), key=lambda index: values[index])):
        largest = max(largest, min(1.0, values[index] * (len(values) - place)))
        adjusted[index] = largest
    return adjusted
