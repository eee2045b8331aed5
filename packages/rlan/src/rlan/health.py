"""Warning signs in a run's metrics, with their remedies: from the training guide, the validation report and RLAN's
authors."""

from collections.abc import Mapping
from dataclasses import dataclass

Metrics = Mapping[str, float]

_NEGLIGIBLE_NORM = 1e-3  # Frobenius norm of a weight change; the weights' own norm is about 10


@dataclass
class HealthMonitor:
    """Checks the metrics of every validation for warning signs and reports each sign once.

    Attributes:
        best_loss: lowest running mean of the training loss at any validation so far.
        best_epoch: epoch of that validation.
        first_stop_probability: mean stop probability of the untrained stop head; None without DSC.
        solved_any: whether any validation had an exact answer.
        given: names of the warnings reported so far.
        hyperlora_max_norm: limit of the norm of HyperLoRA's weight changes, `model.hyperlora_max_norm`.
    """

    best_loss: float = float("inf")
    best_epoch: int = 0
    first_stop_probability: float | None = None
    solved_any: bool = False
    given: tuple[str, ...] = ()
    hyperlora_max_norm: float = 1.0

    def check(self, metrics: Metrics, training: Metrics, epoch: int) -> list[str]:
        """Returns the warnings that were not reported before.

        Args:
            metrics: metrics of this validation.
            training: running means of `task_loss`, `first_step_loss`, `dsc_grad_norm`, and of the metrics of HyperLoRA
                and the auxiliary losses where they are switched on.
            epoch: number of epochs trained.
        """
        if training["task_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = training["task_loss"], epoch
        self.solved_any = self.solved_any or metrics["task_accuracy"] > 0
        first, stop = self.first_stop_probability, metrics.get("stop_probability")
        stop_is_unmoved = first is not None and stop is not None and abs(stop - first) < 0.01
        magnitudes = [value for name, value in training.items() if name.startswith("lora_magnitude_")]
        has_changes = max(magnitudes, default=1.0) > _NEGLIGIBLE_NORM
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
                epoch > 20 and stop_is_unmoved,
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
            "lora_gone": (
                epoch > 5 and not has_changes,
                "all of HyperLoRA's changes vanish: the context tells it nothing; raise model.hyperlora_init_scale or "
                "training.hyperlora_lr_multiplier",
            ),
            "lora_at_limit": (
                epoch > 5 and max(magnitudes, default=0.0) > 0.99 * self.hyperlora_max_norm,
                "HyperLoRA's changes grow up to model.hyperlora_max_norm, which alone holds them: lower "
                "model.hyperlora_scaling or training.hyperlora_lr_multiplier",
            ),
            "lora_alike": (
                epoch > 5 and has_changes and training.get("lora_diversity", 1.0) < 0.01,
                "all tasks get the same change (lora_diversity near 0), which is no meta-learning: switch loo_training "
                "on, or raise its loss_weight",
            ),
            "loo_accuracy": (
                epoch > 10 and training.get("loo_accuracy", 1.0) < 0.5,
                "loo_accuracy below 0.5 after 10 epochs: demonstrations do not predict each other; train longer, or "
                "raise loo_training.loss_weight",
            ),
            "loo_skipped": (
                training.get("loo_skipped_ratio", 0.0) > 0.3,
                "leave-one-out skips over 30% of the queries, which show too few demonstrations: raise "
                "data.max_demonstrations, or set data.vary_demonstrations to false",
            ),
            "equivariance": (
                epoch > 10 and training.get("equiv_delta_norm", 0.0) > 1,
                "equiv_delta_norm above 1: changes depend on the orientation of a task; raise "
                "equivariance_training.loss_weight",
            ),
        }
        new_signs = [name for name, (holds, _) in signs.items() if holds and name not in self.given]
        self.given += tuple(new_signs)
        return [signs[name][1] for name in new_signs]
