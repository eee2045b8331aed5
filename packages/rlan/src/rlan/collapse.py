"""Detects background collapse: a model that answers with the background colour almost everywhere."""

from collections.abc import Mapping
from dataclasses import dataclass

MAX_STRIKES = 5  # collapsed validations in a row that end a run, from the training guide
EXIT_COLLAPSED = 3

Metrics = Mapping[str, float]


def collapse_reasons(metrics: Metrics, epoch: int) -> list[str]:
    """Returns why a validation looks collapsed, an empty list if it does not; the thresholds are the training guide's.

    Args:
        metrics: metrics of the validation.
        epoch: number of epochs trained; two of the reasons count only after 10 and 20 epochs.
    """
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
    """Counts collapsed validations in a row.

    Attributes:
        strikes: collapsed validations since the last healthy one.
    """

    strikes: int = 0

    def check(self, metrics: Metrics, epoch: int) -> str | None:
        """Returns a warning with the count and the reasons, or None; a healthy validation resets the count."""
        reasons = collapse_reasons(metrics, epoch)
        self.strikes = self.strikes + 1 if reasons else 0
        if not reasons:
            return None
        return f"[WARNING] BACKGROUND COLLAPSE DETECTED! ({self.strikes}/{MAX_STRIKES})  Reasons: {', '.join(reasons)}"

    @property
    def fired(self) -> bool:
        """Whether training must stop."""
        return self.strikes >= MAX_STRIKES


def likely_cause(metrics: Metrics, focal_alpha: float, color_permutation: bool, loss_rose: bool) -> str:
    """Returns the cause in the training guide's table that fits best, with its fix.

    Args:
        metrics: metrics of the last validation.
        focal_alpha: `training.focal_alpha` of the run.
        color_permutation: whether colours were permuted in training.
        loss_rose: whether the training loss is higher than at the start.
    """
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
