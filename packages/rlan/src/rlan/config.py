"""RLAN's configuration. Keys keep the names of the training guide; `configs/rlan/` has the recipes."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from arc_core.config import Count, CountOrZero, Fraction, NonNegative, OldKeys, Positive, Range
from arc_core.errors import ConfigError
from arc_core.settings import DeviceConfig, Precision, Schedule

METHOD = "rlan"
TRAIN_COMMAND = "uv run --package rlan train"

LossMode = Literal["cross_entropy", "focal", "stablemax", "weighted_stablemax", "focal_stablemax"]


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and parts of the network.

    Attributes:
        hidden_dim: D, channels of a cell; a multiple of 4 * num_heads.
        num_solver_steps: T.
        max_clues: K.
        num_predicates: P.
        num_heads: of every attention.
        spatial_downsample: side of a demonstration's pooled map.
        context_layers: transformer blocks over all support tokens.
        context_injection: how demonstrations enter the features; the solver attends to them in any case.
        solver_attention: cells attend to each other in every step; false leaves the pure ConvGRU.
        use_context, use_dsc, use_msre, use_lcr, use_sph: parts to switch off. MSRE needs DSC.
        use_steering: cells look at the test input's places that the context points them to; needs the context.
        use_hyperlora: change the solver's weights by the task; needs the context.
        hyperlora_rank, hyperlora_scaling, hyperlora_dropout, hyperlora_init_scale: of the changes.
        hyperlora_max_norm: largest Frobenius norm of a change.
        predicate_temperature: divides the predicates' logits.
        stop_bias: initial logit of DSC's stop head.
    """

    hidden_dim: Count = 256
    num_solver_steps: Count = 6
    max_clues: Count = 5
    num_predicates: Count = 16
    num_heads: Count = 8
    spatial_downsample: Annotated[int, Range(1, 30)] = 8
    context_layers: CountOrZero = 2
    context_injection: Literal["film", "cross_attention"] = "film"
    solver_attention: bool = True
    use_context: bool = True
    use_dsc: bool = True
    use_msre: bool = True
    use_lcr: bool = True
    use_sph: bool = True
    use_steering: bool = True
    use_hyperlora: bool = False
    hyperlora_rank: Count = 8
    hyperlora_scaling: Positive = 1.0
    hyperlora_dropout: Annotated[float, Range(0, 0.9)] = 0.0
    hyperlora_init_scale: Positive = 0.1
    hyperlora_max_norm: Positive = 1.0
    predicate_temperature: Positive = 1.0
    stop_bias: float = -1.0

    def __post_init__(self) -> None:
        if self.hidden_dim % (4 * self.num_heads):
            raise ConfigError(
                f"hidden_dim must be a multiple of 4 * num_heads = {4 * self.num_heads} (2-D rotary positions); "
                f"got {self.hidden_dim}"
            )
        if self.use_hyperlora and not self.use_context:
            raise ConfigError("use_hyperlora needs use_context, from which the changes come; got use_context: false")


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation and losses.

    Attributes:
        batch_size: queries of one forward pass, over all processes.
        grad_accumulation_steps: forward passes an optimiser step.
        hyperlora_lr_multiplier: learning rate of HyperLoRA over that of the rest.
        warmup_fraction: of all steps, for "onecycle".
        gradient_clip: largest gradient norm.
        focal_alpha: weight of cells that are not background; background gets 1 - alpha.
        deep_supervision_weight: of the mean loss of the earlier solver steps.
        far_outside_weight: of cells past the ring around the target.
        min_clues, clue_cost: the two sides of the sparsity loss.
        ema_decay: of averaged weights, which validation and solving then use; null for none.
    """

    max_epochs: Count = 1000
    batch_size: Count = 96
    grad_accumulation_steps: Count = 2
    learning_rate: Positive = 3e-4
    hyperlora_lr_multiplier: Positive = 10.0
    weight_decay: NonNegative = 0.01
    gradient_clip: Positive = 1.0
    scheduler: Schedule = "onecycle"
    warmup_fraction: Annotated[float, Range(0, 1, open_low=True)] = 0.1
    loss_mode: LossMode = "focal"
    focal_alpha: Fraction = 0.5
    focal_gamma: NonNegative = 2.0
    deep_supervision_weight: NonNegative = 0.4
    far_outside_weight: Fraction = 0.1
    lambda_entropy: NonNegative = 0.1
    lambda_sparsity: NonNegative = 0.05
    lambda_predicate: NonNegative = 0.01
    lambda_centroid_diversity: NonNegative = 0.5
    min_clues: NonNegative = 2.5
    clue_cost: NonNegative = 0.02
    ema_decay: Annotated[float, Range(0, 1)] | None = None
    seed: CountOrZero = 0


@dataclass(frozen=True)
class AugmentationConfig:
    """Views of training samples.

    Attributes:
        dihedral: turn and reflect.
        color_permutation: rename the colours, colour 0 kept.
        color_permutation_prob: share of samples that it is done to.
        permute_background_prob: share of those samples in which colour 0 is renamed too.
    """

    dihedral: bool = True
    color_permutation: bool = True
    color_permutation_prob: Fraction = 1.0
    permute_background_prob: Fraction = 0.0


@dataclass(frozen=True)
class DataConfig:
    """What is trained and validated on.

    Attributes:
        train: data spec of a training set.
        held_out_fraction: of its tasks, kept for validation; which ones depends on their ids alone.
        max_side: train only on tasks whose grids are no longer or wider; held-out tasks are not chosen by it.
        samples_per_task: augmented queries of each task an epoch.
        cache_samples: draw them once and use the same in every epoch.
        max_demonstrations: most pairs shown, in training and in solving.
        vary_demonstrations: show a random number of them in training.
    """

    train: str = "arc1:train"
    held_out_fraction: Annotated[float, Range(0, 0.9)] = 0.1
    max_side: Annotated[int, Range(1, 30)] = 30
    samples_per_task: Count = 1
    cache_samples: bool = False
    max_demonstrations: Count = 5
    vary_demonstrations: bool = True
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


@dataclass(frozen=True)
class ValidationConfig:
    """When to validate, save and log.

    Attributes:
        every_epochs: validate and save after this many epochs.
        train_tasks: how many training tasks to score beside the held-out ones.
        keep_last: checkpoints to keep beside the best.
        log_every_steps: training metrics.
        save_every_steps: further saves; 0 for none.
    """

    every_epochs: Count = 10
    train_tasks: Count = 40
    keep_last: Count = 3
    log_every_steps: Count = 10
    save_every_steps: CountOrZero = 0


@dataclass(frozen=True)
class LooConfig:
    """Leave-one-out training: the other demonstrations must predict one of them.

    Attributes:
        loss_weight: of the loss on left-out demonstrations.
        min_pairs_for_loo: queries that show fewer are skipped.
    """

    enabled: bool = False
    loss_weight: NonNegative = 0.5
    min_pairs_for_loo: Annotated[int, Range(2)] = 2


@dataclass(frozen=True)
class EquivarianceConfig:
    """Equivariance training: HyperLoRA's changes and the answers agree between a task and its turned copies.

    Attributes:
        loss_weight: of the disagreement.
        num_augmentations: turned copies whose changes are compared; the answers of one are.
    """

    enabled: bool = False
    loss_weight: NonNegative = 0.1
    num_augmentations: Annotated[int, Range(1, 7)] = 4


@dataclass(frozen=True)
class InferenceConfig:
    """How answers are read off.

    Attributes:
        use_best_step_selection: take the solver step of lowest mean entropy, not the last. Training and its metrics
            always take the last.
    """

    use_best_step_selection: bool = False


@dataclass(frozen=True)
class RlanConfig:
    """The whole."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loo_training: LooConfig = field(default_factory=LooConfig)
    equivariance_training: EquivarianceConfig = field(default_factory=EquivarianceConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    @property
    def precision(self) -> Precision:
        """Of autocast on a GPU."""
        return self.device.precision

    def __post_init__(self) -> None:
        if self.equivariance_training.enabled and not self.model.use_hyperlora:
            raise ConfigError("equivariance_training compares HyperLoRA's changes; set model.use_hyperlora to true")


OLD_KEYS = OldKeys(
    renamed={
        "training.grad_accumulation": "training.grad_accumulation_steps",
        "data.color_permutation": "data.augmentation.color_permutation",
        "data.color_permutation_prob": "data.augmentation.color_permutation_prob",
    },
    needless={
        "data.num_workers": "tasks stay on the device, there are no loader workers to set up",
        "data.prefetch_factor": "tasks stay on the device, there is nothing to prefetch",
        "data.augmentation.track_augmentation": "a query holds its view, so every answer can be mapped back",
        "evaluation.use_trm_style_eval": "evaluation always looks at many views",
        "evaluation.num_augmented_views": "eval compare --views 8x4 sets it for all methods alike",
        "evaluation.num_color_perms": "eval compare --views 8x4 sets it for all methods alike",
        "evaluation.use_voting": "answers of several views are always voted on",
        "evaluation.use_inverse_aug": "answers are always mapped back before the vote",
    },
)
