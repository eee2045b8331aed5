"""Whether options are worth having: fewer decisions at equal success, told from chance by the tasks themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

from jepa_hrl.rl.policy.evaluation import EpisodeOutcomes

LONG = 3  # actions of a program from which on options should help
_EQUAL = 0.02  # success within which two policies count as equally good


@dataclass(frozen=True)
class OptionsComparison:
    """Options against none on tasks of `LONG` actions and more, all seeds together.

    Attributes:
        success_without, success: share of tasks solved.
        used: share of the solved tasks in which an option was chosen.
        both: tasks that both policies of a seed solve, of any seed.
        decisions_saved: decisions saved on these, mean over tasks.
        decisions_saved_95: interval of it, bootstrapped over tasks (percentiles); None of fewer than two tasks.
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
        return self.used > 0 and beyond_chance and self.success >= self.success_without - _EQUAL

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        found = "worth having" if self.is_beneficial else "not worth having"
        interval = (
            ""
            if self.decisions_saved_95 is None
            else f", 95% interval {self.decisions_saved_95[0]:.2f} to {self.decisions_saved_95[1]:.2f}"
        )
        return (
            f"the options are {found}: of the tasks of {LONG} actions and more that are solved an option is chosen "
            f"in {self.used:.2f}; it saves {self.decisions_saved:.2f} decisions where both find a way "
            f"({self.both} tasks{interval}), with success {self.success:.3f} against {self.success_without:.3f}"
        )

    def to_json(self) -> dict[str, object]:
        """Its numbers."""
        return {
            "success_without": self.success_without, "success": self.success, "used": self.used, "both": self.both,
            "fewer": self.decisions_saved,
            "fewer_95": None if self.decisions_saved_95 is None else list(self.decisions_saved_95),
        }  # fmt: skip


def summarize_decisions(tried: EpisodeOutcomes) -> dict[str, dict[str, float]]:
    """Success, and decisions and actions of the solved: on all problems, and on those of long programs."""
    found = {}
    for part, chosen in (("all", tried.wanted > 0), ("long", tried.wanted >= LONG)):
        solved = chosen & tried.grounded
        found[part] = {
            "tasks": float(chosen.sum()), "success": _mean(tried.grounded[chosen]),
            "decisions": _mean(tried.decisions[solved]), "actions": _mean(tried.actions[solved]),
        }  # fmt: skip
    return found


def compare_options(without: Sequence[EpisodeOutcomes], using: Sequence[EpisodeOutcomes]) -> OptionsComparison:
    """Compares tries of the same held-out tasks, a pair a seed."""
    long = without[0].wanted >= LONG
    plain, solved = (np.array([tried.grounded[long] for tried in tries]) for tries in (without, using))
    taken = np.array([tried.decisions[long] for tried in without])
    chosen = np.array([tried.decisions[long] for tried in using])
    used = chosen < np.array([tried.actions[long] for tried in using])
    both = plain & solved
    counted = both.any(axis=0)
    saved = np.where(both, taken - chosen, 0).sum(axis=0)[counted] / both.sum(axis=0)[counted]
    return OptionsComparison(
        _mean(plain), _mean(solved), _mean(used[solved]), int(counted.sum()), _mean(saved), _interval(saved)
    )  # fmt: skip


def _mean(values: npt.NDArray[np.generic]) -> float:
    return float(values.mean()) if values.size else 0.0


def _interval(values: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    return float(found.low), float(found.high)
