"""The guard against background collapse, and the guide's warning signs with their remedies."""

from collections.abc import Mapping
from dataclasses import dataclass

STRIKES = 5
EXIT_COLLAPSED = 3

Metrics = Mapping[str, float]


def collapse_reasons(metrics: Metrics, epoch: int) -> list[str]:
    """Why a validation looks collapsed; empty if it does not. Thresholds are the training guide's."""
    reasons = []
    excess = metrics["bg_ratio_pred"] - metrics["bg_ratio_target"]
    if excess > 0.15:
        reasons.append(f"BG excess: {excess:.1%}")
    if epoch > 10 and metrics["non_bg_accuracy"] < 0.01:
        reasons.append(f"Non-BG acc: {metrics['non_bg_accuracy']:.1%}")
    if metrics["colors_used"] < metrics["colors_target"] - 3:
        reasons.append(f"Colors: {metrics['colors_used']:.1f} used, {metrics['colors_target']:.1f} in targets")
    if epoch > 20 and metrics.get("dsc_entropy", 0.0) > 5:
        reasons.append(f"DSC entropy: {metrics['dsc_entropy']:.2f}")
    return reasons


@dataclass
class CollapseGuard:
    """Counts collapsed validations in a row."""

    strikes: int = 0

    def check(self, metrics: Metrics, epoch: int) -> str | None:
        """A warning with its count and reasons, or None; a clean validation resets the count."""
        reasons = collapse_reasons(metrics, epoch)
        self.strikes = self.strikes + 1 if reasons else 0
        if not reasons:
            return None
        return f"[WARNING] BACKGROUND COLLAPSE DETECTED! ({self.strikes}/{STRIKES})  Reasons: {', '.join(reasons)}"

    @property
    def fired(self) -> bool:
        """Whether training should stop."""
        return self.strikes >= STRIKES


def likely_cause(metrics: Metrics, focal_alpha: float, color_permutation: bool, loss_rose: bool) -> str:
    """The cause in the guide's table that fits best, with its fix."""
    if metrics.get("context_norm", 1.0) < 0.1:
        return "ContextEncoder not working: demonstrations do not reach the model; check data.max_demonstrations"
    if loss_rose:
        return "learning rate too high: the loss rose before it flattened; divide training.learning_rate by 2 to 5"
    if focal_alpha < 0.5:
        return f"focal alpha too low ({focal_alpha}): background dominates; raise training.focal_alpha to 0.5-0.75"
    if metrics.get("dsc_entropy", 0.0) > 5:
        return "DSC not learning: attention is spread over the grid; raise training.lambda_entropy"
    if not color_permutation:
        return "no augmentation: set data.augmentation.color_permutation to true"
    return "no single cause of the guide fits; try a lower training.learning_rate and training.focal_alpha 0.75"


@dataclass
class Watch:
    """The guide's other warnings. Each is given once.

    Attributes:
        best_loss: lowest training loss of a validation so far.
        best_epoch: when.
        first_stop_probability: of the untrained stop head; None without DSC.
        solved_any: whether any validation had an exact answer.
        given: names of the warnings given.
    """

    best_loss: float = float("inf")
    best_epoch: int = 0
    first_stop_probability: float | None = None
    solved_any: bool = False
    given: tuple[str, ...] = ()

    def check(self, metrics: Metrics, training: Metrics, epoch: int) -> list[str]:
        """New warnings.

        Args:
            metrics: of this validation.
            training: recent means of `task_loss`, `first_step_loss` and `dsc_grad_norm`.
        """
        if training["task_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = training["task_loss"], epoch
        self.solved_any = self.solved_any or metrics["task_accuracy"] > 0
        first, stop = self.first_stop_probability, metrics.get("stop_probability")
        unmoved = first is not None and stop is not None and abs(stop - first) < 0.01
        signs = {
            "no_exact": (
                epoch > 50 and not self.solved_any,
                "task_accuracy is 0 after 50 epochs: something is wrong; check the data and the loss",
            ),
            "no_foreground": (
                epoch > 100 and metrics["non_bg_accuracy"] < 0.01,
                "non_bg_accuracy below 0.01 after 100 epochs: background collapse",
            ),
            "flat_loss": (
                epoch - self.best_epoch > 100,
                "no lower training loss for 100 epochs: try a lower training.learning_rate",
            ),
            "dsc_gradient": (
                epoch > 5 and training.get("dsc_grad_norm", 1.0) < 1e-3,
                "DSC gradient norm below 1e-3: clues do not learn; raise training.lambda_entropy",
            ),
            "stop_unmoved": (
                epoch > 20 and unmoved,
                "stop probability has not moved from its start: raise training.lambda_sparsity",
            ),
            "spread": (
                epoch > 20 and metrics.get("centroid_spread", 9.0) < 2,
                "clues lie within 2 cells: raise training.lambda_centroid_diversity",
            ),
            "refinement": (
                epoch > 10 and training["task_loss"] > training["first_step_loss"],
                "the last solver step is worse than the first: raise training.deep_supervision_weight",
            ),
            "context": (
                metrics.get("context_norm", 1.0) < 0.1,
                "context vector norm below 0.1: demonstrations do not reach the model",
            ),
            "near_misses": (
                epoch > 30 and metrics["task_accuracy"] == 0 and metrics["pixel_accuracy"] > 0.8,
                "pixel_accuracy above 0.8 with no exact answer: train longer, or raise training.focal_gamma",
            ),
        }
        new = [name for name, (holds, _) in signs.items() if holds and name not in self.given]
        self.given += tuple(new)
        return [signs[name][1] for name in new]
