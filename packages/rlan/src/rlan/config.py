"""RLAN's configuration. Keys have the names of the training guide; `configs/rlan/` has the recipes."""

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
        hidden_dim: D, channels of a cell; a multiple of 4 * num_heads. More learn more and cost time and memory as
            their square; 96 to 512.
        num_solver_steps: T, refinements of the answer. More reach further at the cost of as much more time; 3 to 6.
        max_clues: K, spatial anchors that DSC may place. More mark more positions, each at its own cost; 3 to 8.
        num_predicates: P, soft predicates of SPH. More gate the solver more finely; 8 to 32.
        num_heads: heads of every attention. More attend to more positions with fewer channels each; 2 to 8.
        spatial_downsample: R, side of the map that a demonstration is pooled to. Larger keeps positions more exactly,
            and attention costs R to the fourth power; 4 to 10.
        context_layers: transformer blocks over the support tokens of all demonstrations. More compare them more
            deeply; 1 to 4.
        context_injection: how demonstrations condition the features, by scale and shift ("film") or by
            "cross_attention"; the solver attends to them in any case.
        solver_attention: cells attend to each other in every solver step; false leaves the pure ConvGRU, which is
            faster and sees only its surroundings.
        use_context: encode the demonstrations. False answers from the test input alone, for ablations.
        use_dsc: find clues (dynamic saliency controller). False saves time, for ablations.
        use_msre: encode cells relative to the clues (multi-scale relative encoding); needs use_dsc.
        use_lcr: count colours and what becomes of them (latent counting registers). False is for ablations.
        use_sph: gate the solver by predicates (symbolic predicate heads). False is for ablations.
        use_steering: cells attend to the positions of the test input that the context suggests; needs use_context.
        use_hyperlora: adapt the solver's weights to each task by low-rank changes predicted from the context; needs
            use_context.
        hyperlora_rank: rank of these changes. Higher allows richer changes with as many more parameters; 4 to 16.
        hyperlora_scaling: factor of these changes. Higher lets them grow faster towards the limit; 0.5 to 2.
        hyperlora_dropout: share of the context's channels dropped before they are predicted. Higher regularises more;
            0 to 0.1.
        hyperlora_init_scale: initial size of one of their two factors; the other starts at zero. Higher lets them grow
            faster at first, 0.01 has next to no effect; about 0.1.
        hyperlora_max_norm: limit of the Frobenius norm of a change. Higher allows stronger changes, which may collapse
            training; 0.5 to 2.
        predicate_temperature: divides the predicates' logits. Higher makes them softer; 0.5 to 2.
        stop_bias: initial logit of DSC's stop head. Higher starts with fewer clues; -2 to 0, at -2.5 it barely learns.
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
        max_epochs: epochs of `data.samples_per_task` queries for each task. More train longer; 100 is a check, 1000 a
            full run.
        batch_size: queries of one forward pass, over all processes. More need more memory; 4 to 96.
        grad_accumulation_steps: forward passes of one optimiser step. More average noise as a larger batch would, for
            as much more time; 1 to 8.
        learning_rate: highest learning rate of AdamW. Higher learns faster until the loss explodes; 1e-4 to 2e-3, less
            for wider models.
        hyperlora_lr_multiplier: learning rate of HyperLoRA as a multiple of `learning_rate`. Higher adapts to tasks
            sooner and may drive the changes to their limit; 1 to 10.
        weight_decay: weight decay of AdamW. Higher keeps weights smaller; 0 to 0.1.
        gradient_clip: largest gradient norm of a step. Lower tames outliers and slows learning; 0.5 to 5.
        scheduler: learning rate over time: "onecycle" warms up and then falls to zero, "cosine" falls from the start,
            "constant" stays.
        warmup_fraction: share of all steps in which "onecycle" rises. Higher starts more gently; 0.05 to 0.3.
        loss_mode: loss of the answer's cells. "cross_entropy" weights all cells alike, "focal" lowers the weight of
            easy cells and of background, "stablemax" replaces softmax, the others combine them.
        focal_alpha: in the focal modes, weight of cells that are not background; background gets 1 - alpha. Higher
            counters background collapse; 0.5 to 0.75.
        focal_gamma: in the focal modes, exponent that lowers the weight of easy cells. Higher concentrates on hard
            cells; 0 to 3, usually 2.
        deep_supervision_weight: weight of the mean loss of the earlier solver steps. Higher makes early answers better
            and guards against later steps that are worse; 0.2 to 1.
        far_outside_weight: weight of cells past the ring around the target. Higher teaches the size of answers better
            and takes weight from their content; 0.05 to 0.5.
        lambda_entropy: weight of the entropy of DSC's attention. Higher makes clues sharper; 0.01 to 0.1.
        lambda_sparsity: weight of the loss on the number of clues. Higher holds it closer to `min_clues`; 0.01 to 0.1.
        lambda_predicate: weight of the correlation between predicates. Higher makes them more different; 0.01 to 0.1.
        lambda_centroid_diversity: weight of the closeness of clues. Higher drives them further apart; 0.05 to 0.5.
        min_clues: expected number of clues below which the sparsity loss grows. Higher uses more clues; 1 to
            `model.max_clues`, usually 2.5.
        clue_cost: cost of each expected clue in the sparsity loss. Higher uses fewer clues; 0.01 to 0.1.
        ema_decay: decay of the exponential average of the weights, which validation and solving then use; null for
            none. Higher averages over more steps; 0.99 to 0.9999.
        seed: seed of the initial weights, queries and augmentation; any whole number, and each gives another run.
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
    """Augmentation of training queries.

    Attributes:
        dihedral: rotate and reflect each query by a random one of the 8 symmetries of a square. True gives more variety
            and needs longer training.
        color_permutation: permute the colours of a query, except colour 0. True keeps rules from being tied to colours.
        color_permutation_prob: share of queries whose colours are permuted. Higher leaves fewer colours to memorise;
            0.5 to 1.
        permute_background_prob: share of these queries in which colour 0 is permuted too. Higher makes background
            harder to recognise; 0 to 0.3.
    """

    dihedral: bool = True
    color_permutation: bool = True
    color_permutation_prob: Fraction = 1.0
    permute_background_prob: Fraction = 0.0


@dataclass(frozen=True)
class DataConfig:
    """Data to train and validate on.

    Attributes:
        train: data spec of a training set, such as arc1:train or dir:FOLDER.
        held_out_fraction: share of its tasks that are held out for validation, chosen by a hash of their ids alone.
            Higher validates more reliably and trains on less; 0.05 to 0.2.
        max_side: train only on tasks whose grids have no longer side; held-out tasks may be larger. Higher trains on
            more tasks and takes longer; 10 to 30.
        samples_per_task: augmented queries of each task in an epoch. Higher makes epochs longer and their batches more
            uniform in size; 1 to 20.
        cache_samples: draw the queries once and repeat them in every epoch. True loses variety unless samples_per_task
            is about 500.
        max_demonstrations: N, the most demonstrations shown, in training and in solving. More show the rule better and
            cost memory; 3 to 5.
        vary_demonstrations: show a random number of demonstrations in half of the training queries. True also
            teaches the model to answer from fewer, false trains on as many as solving shows.
        augmentation: augmentation of training queries.
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
    """Intervals of validation, saving and logging.

    Attributes:
        every_epochs: epochs between validations, each of which saves a checkpoint. Higher saves time and notices
            collapse later; 5 to 20.
        train_tasks: training tasks to score beside the held-out ones. More measure better and take longer; 20 to 100.
        keep_last: newest checkpoints to keep beside the best. More take more disk space; 1 to 5.
        log_every_steps: optimiser steps between lines of training metrics. Higher writes less; 1 to 50.
        save_every_steps: optimiser steps between further checkpoints; 0 for none. Higher loses more when a run is
            killed; 0 or 100 to 1000.
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
        enabled: train on left-out demonstrations too. True makes a step take about twice as long.
        loss_weight: weight of their task loss. Higher values generalisation over fitting the queries; 0.1 to 1.
        min_pairs_for_loo: queries that show fewer demonstrations are skipped. Higher skips more; 2 or 3.
    """

    enabled: bool = False
    loss_weight: NonNegative = 0.5
    min_pairs_for_loo: Annotated[int, Range(2)] = 2


@dataclass(frozen=True)
class EquivarianceConfig:
    """Equivariance training: a task and its rotated or reflected copies should get the same weight changes and answers.

    Attributes:
        enabled: train on agreement with transformed copies too; needs `model.use_hyperlora`. True makes steps slower.
        loss_weight: weight of the disagreement. Higher regularises more and may dominate the task loss; 0.05 to 0.2.
        num_augmentations: transformed copies of each query, of which the answer of the first is compared and the weight
            changes of all. More average better and take longer; 1 to 7, usually 4.
    """

    enabled: bool = False
    loss_weight: NonNegative = 0.1
    num_augmentations: Annotated[int, Range(1, 7)] = 4


@dataclass(frozen=True)
class InferenceConfig:
    """Reading of answers from the solver's steps.

    Attributes:
        use_best_step_selection: answer with the solver step of lowest mean entropy, not with the last. Training and its
            metrics always take the last.
    """

    use_best_step_selection: bool = False


@dataclass(frozen=True)
class RlanConfig:
    """The config of a training run, stored in its checkpoints.

    Attributes:
        model: sizes and parts of the network.
        training: optimisation and losses.
        data: training and held-out tasks.
        loo_training: leave-one-out training.
        equivariance_training: equivariance training.
        inference: reading of answers.
        device: device and precision.
        validation: intervals of validation, saving and logging.
    """

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
        """Floating-point precision of autocast on a GPU."""
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
