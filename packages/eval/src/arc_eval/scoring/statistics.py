"""Confidence intervals and significance tests over tasks.

Tasks are the resampling unit. All methods answer the same tasks, so differences between methods are paired.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

Floats = npt.NDArray[np.float64]

_RESAMPLES = 10_000
_CHUNK = 500  # resamples that are drawn at once; all of them together would take 80 kB a task
_TAILS = (2.5, 97.5)  # percentiles that bound a 95% interval


class PairedBootstrap:
    """Resampled means of several methods over the same draws of tasks.

    One set of draws serves all methods, so the difference of two columns is a resampled paired difference.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 13.3 (percentile interval).
    """

    def __init__(self, values: Floats, seed: int = 0) -> None:
        """Draws 10,000 resamples of the tasks and computes every method's mean over each.

        Args:
            values: (tasks, methods) score of each method on each task.
            seed: seed of the resampling.
        """
        tasks = len(values)
        rng = np.random.default_rng(seed)
        shares = np.full(tasks, 1 / tasks)
        parts = [rng.multinomial(tasks, shares, size=_CHUNK) @ values for _ in range(_RESAMPLES // _CHUNK)]
        self._means = np.concatenate(parts) / tasks

    def interval(self, method: int) -> tuple[float, float]:
        """Returns the 95% interval of a method's mean; `method` is its column."""
        return _percentiles(self._means[:, method])

    def difference(self, first: int, second: int) -> tuple[float, float]:
        """Returns the 95% interval of the first method's mean minus the second's; both are columns."""
        return _percentiles(self._means[:, first] - self._means[:, second])


def _percentiles(means: Floats) -> tuple[float, float]:
    low, high = np.percentile(means, _TAILS)
    return float(low), float(high)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Returns Wilson's 95% interval of a proportion, which has positive width even at 0 or `trials` successes."""
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Returns McNemar's exact two-sided p-value of the hypothesis that two methods solve equally many tasks.

    Args:
        only_first: number of tasks that the first method solves and the second does not.
        only_second: number of tasks that the second method solves and the first does not.
    """
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for multiple testing and returns them in the same order.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted
