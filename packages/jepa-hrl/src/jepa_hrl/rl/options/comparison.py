"""Compares a policy with options to one without: fewer decisions at equal success, beyond chance over the tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

from jepa_hrl.rl.policy.evaluation import EpisodeOutcomes

LONG = 3  # actions of a program from which on options should help
_SUCCESS_TOLERANCE = 0.02  # lower success that still counts as equal


@dataclass(frozen=True)
class OptionsComparison:
    """Options against primitives on tasks of `LONG` actions and more, all seeds together.

    Attributes:
        success_without, success: share of tasks solved without and with options.
        used: share of the tasks solved with options in which an option was chosen.
        both: number of tasks that both policies of a seed solve, of any seed.
        decisions_saved: on these tasks, mean over tasks.
        decisions_saved_95: its 95% interval, bootstrapped over tasks (percentiles); None for fewer than two tasks.
    """

    success_without: float
    success: float
    used: float
    both: int
    decisions_saved: float
    decisions_saved_95: tuple[float, float] | None

    @property
    def is_beneficial(self) -> bool:
        """Whether options were chosen, and saved decisions beyond chance at equal success."""
        beyond_chance = self.decisions_saved_95 is not None and self.decisions_saved_95[0] > 0
        return self.used > 0 and beyond_chance and self.success >= self.success_without - _SUCCESS_TOLERANCE

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        verdict = "worth having" if self.is_beneficial else "not worth having"
        interval = ""
        if self.decisions_saved_95 is not None:
            low, high = self.decisions_saved_95
            interval = f", 95% interval {low:.2f} to {high:.2f}"
        return (
            f"the options are {verdict}: of the tasks of {LONG} actions and more that are solved an option is chosen "
            f"in {self.used:.2f}; it saves {self.decisions_saved:.2f} decisions where both find a way "
            f"({self.both} tasks{interval}), with success {self.success:.3f} against {self.success_without:.3f}"
        )

    def to_json(self) -> dict[str, object]:
        """Returns the numbers under their names in hierarchical.json."""
        return {
            "success_without": self.success_without, "success": self.success, "used": self.used, "both": self.both,
            "fewer": self.decisions_saved,
            "fewer_95": None if self.decisions_saved_95 is None else list(self.decisions_saved_95),
        }  # fmt: skip


def summarize_decisions(outcomes: EpisodeOutcomes) -> dict[str, dict[str, float]]:
    """Returns the success, and the mean decisions and actions of solved problems: of all, and of long programs."""
    summary = {}
    for part, selected in (("all", outcomes.program_length > 0), ("long", outcomes.program_length >= LONG)):
        solved = selected & outcomes.grounded
        summary[part] = {
            "tasks": float(selected.sum()), "success": _mean(outcomes.grounded[selected]),
            "decisions": _mean(outcomes.decisions[solved]), "actions": _mean(outcomes.actions[solved]),
        }  # fmt: skip
    return summary


def compare_options(
    without_options: Sequence[EpisodeOutcomes], with_options: Sequence[EpisodeOutcomes]
) -> OptionsComparison:
    """Compares the outcomes on the same held-out tasks, seed by seed.

    Args:
        without_options, with_options: outcomes of the policies of each seed, in the same order.
    """
    long = without_options[0].program_length >= LONG
    solved_without, solved = (
        np.array([outcomes.grounded[long] for outcomes in arm]) for arm in (without_options, with_options)
    )
    decisions_without, decisions = (
        np.array([outcomes.decisions[long] for outcomes in arm]) for arm in (without_options, with_options)
    )
    used = decisions < np.array([outcomes.actions[long] for outcomes in with_options])
    both = solved_without & solved
    counted = both.any(axis=0)
    saved = np.where(both, decisions_without - decisions, 0).sum(axis=0)[counted] / both.sum(axis=0)[counted]
    return OptionsComparison(
        success_without=_mean(solved_without),
        success=_mean(solved),
        used=_mean(used[solved]),
        both=int(counted.sum()),
        decisions_saved=_mean(saved),
        decisions_saved_95=_bootstrap_interval(saved),
    )


def _mean(values: npt.NDArray[np.generic]) -> float:
    return float(values.mean()) if values.size else 0.0


def _bootstrap_interval(values: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    """Returns the 95% interval of a mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    interval = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    return float(interval.low), float(interval.high)
