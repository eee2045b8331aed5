"""Compares a config with the training guide's checklist and the validation report, for `train --validate-config`."""

from dataclasses import dataclass

from rlan.config import RlanConfig


@dataclass(frozen=True)
class Check:
    """One row of a report.

    Attributes:
        setting: dotted key, or keys.
        value: its value in the config.
        expected: what the guide or the report recommends.
        ok: whether the value agrees with that.
        reason: why it matters where it does not.
    """

    setting: str
    value: object
    expected: str
    ok: bool
    reason: str


def check_against_guide(config: RlanConfig) -> list[Check]:
    """Returns the rows of the training guide's checklist. A row that is not ok is a warning, not an error."""
    model, training, data, device = config.model, config.training, config.data, config.device
    alpha_matters = training.loss_mode in ("focal", "focal_stablemax")
    effective = training.batch_size * training.grad_accumulation_steps
    return [
        Check("model.hidden_dim", model.hidden_dim, "256 (base) or 512 (fair)", model.hidden_dim >= 256, "small model"),
        Check(
            "model.num_solver_steps", model.num_solver_steps, "6", model.num_solver_steps >= 6,
            "complex tasks need more refinement",
        ),
        Check("model.max_clues", model.max_clues, "5", model.max_clues >= 5, "fewer anchors than most patterns need"),
        Check(
            "training.max_epochs", training.max_epochs, "1000", training.max_epochs >= 1000,
            "10 are a quick test, 100 a sanity check, 500 development",
        ),
        Check(
            "training.batch_size x grad_accumulation_steps", effective, "192 (96 x 2)", effective >= 192,
            "smaller batches have noisier gradients",
        ),
        Check(
            "training.learning_rate", training.learning_rate, "at most 1e-3", training.learning_rate <= 1e-3,
            "a high rate explodes and then flatlines",
        ),
        Check(
            "training.focal_alpha", training.focal_alpha, "0.5 to 0.75",
            not alpha_matters or 0.5 <= training.focal_alpha <= 0.75,
            "below 0.5 background outweighs the rest, the guide's first cause of collapse",
        ),
        Check(
            "training.focal_gamma", training.focal_gamma, "2.0", not alpha_matters or training.focal_gamma == 2.0,
            "2.0 is the standard",
        ),
        Check(
            "training.scheduler", training.scheduler, "onecycle", training.scheduler == "onecycle",
            "onecycle converges faster",
        ),
        Check(
            "training.lambda_centroid_diversity", training.lambda_centroid_diversity, "above 0",
            not model.use_dsc or training.lambda_centroid_diversity > 0, "clues tend to cluster on one place",
        ),
        Check(
            "model.stop_bias", model.stop_bias, "above -2.5", model.stop_bias > -2.5,
            "at -2.5 the stop head has no gradient",
        ),
        Check(
            "data.cache_samples", data.cache_samples, "false, or true with samples_per_task 500",
            not data.cache_samples or data.samples_per_task >= 500, "critical for diversity: cached samples repeat",
        ),
        Check(
            "data.augmentation.color_permutation", data.augmentation.color_permutation, "true",
            data.augmentation.color_permutation, "362,880 times more views",
        ),
        Check(
            "data.augmentation.color_permutation_prob", data.augmentation.color_permutation_prob, "1.0",
            data.augmentation.color_permutation_prob == 1.0, "less than always leaves colours to memorise",
        ),
        Check(
            "data.held_out_fraction", data.held_out_fraction, "above 0", data.held_out_fraction > 0,
            "without held-out tasks the best checkpoint is chosen on training tasks",
        ),
        Check("device.mixed_precision", device.mixed_precision, "true", device.mixed_precision, "slower on a GPU"),
        Check("device.dtype", device.dtype, "bfloat16", device.dtype == "bfloat16", "more stable than float16"),
        Check("device.compile", device.compile, "true on a GPU", device.compile, "20 to 40% slower on a GPU"),
    ]  # fmt: skip


def check_stable_recipe(config: RlanConfig) -> list[Check]:
    """Returns the rows of the validation report. The recipe `stable` meets them all; other recipes differ in some."""
    model, training, augmentation = config.model, config.training, config.data.augmentation
    loo, equiv = config.loo_training, config.equivariance_training
    return [
        Check("model.use_hyperlora", model.use_hyperlora, "true", model.use_hyperlora, "no meta-learning"),
        Check("inference.use_best_step_selection", config.inference.use_best_step_selection, "false",
              not config.inference.use_best_step_selection, "matches training, which uses the last step"),
        Check("model.spatial_downsample", model.spatial_downsample, "8", model.spatial_downsample == 8,
              "keeps positions"),
        Check("model.hyperlora_rank", model.hyperlora_rank, "8 to 16", 8 <= model.hyperlora_rank <= 16, "good balance"),
        Check("model.hyperlora_scaling", model.hyperlora_scaling, "1.0", model.hyperlora_scaling == 1.0,
              "watch lora_magnitude_* for growth"),
        Check("model.hyperlora_dropout", model.hyperlora_dropout, "0.0", model.hyperlora_dropout == 0, "stable"),
        Check("model.hyperlora_init_scale", model.hyperlora_init_scale, "0.1", model.hyperlora_init_scale == 0.1,
              "at 0.01 the effect is nil"),
        Check("model.hyperlora_max_norm", model.hyperlora_max_norm, "1.0", model.hyperlora_max_norm <= 1.0,
              "an unclipped change collapsed training"),
        Check("training.hyperlora_lr_multiplier", training.hyperlora_lr_multiplier, "10.0",
              training.hyperlora_lr_multiplier == 10, "HyperLoRA needs faster learning"),
        Check("loo_training.enabled", loo.enabled, "true", loo.enabled, "essential for meta-learning"),
        Check("loo_training.loss_weight", loo.loss_weight, "0.5", loo.loss_weight == 0.5, "balance with the task loss"),
        Check("loo_training.min_pairs_for_loo", loo.min_pairs_for_loo, "2", loo.min_pairs_for_loo == 2, "the minimum"),
        Check("equivariance_training.enabled", equiv.enabled, "true", equiv.enabled, "good regulariser"),
        Check("equivariance_training.loss_weight", equiv.loss_weight, "0.1", equiv.loss_weight == 0.1,
              "light, does not dominate"),
        Check("equivariance_training.num_augmentations", equiv.num_augmentations, "4", equiv.num_augmentations == 4,
              "reasonable"),
        Check("data.augmentation.dihedral", augmentation.dihedral, "true", augmentation.dihedral, "views of one rule"),
    ]  # fmt: skip
