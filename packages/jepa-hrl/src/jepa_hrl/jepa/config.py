"""Configuration of the JEPA. Keys keep the names of the training guide; recipes are in `configs/jepa/`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from arc_core.config import Count, CountOrZero, Fraction, NonNegative, OldKeys, Positive, Range
from arc_core.errors import ConfigError
from arc_core.settings import Device, Precision

METHOD = "jepa"
TRAIN_COMMAND = "uv run --package jepa-hrl train-jepa"


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the network.

    Attributes:
        hidden_dim: channels of tokens.
        latent_dim: D, channels of a grid's latent.
        num_embeddings: codes of the quantiser.
        vq_enabled: quantise the objects' embeddings.
        vq_decay: of the running means that the codes are.
        vq_refresh_enabled: move little used codes onto objects of the batch.
        vq_refresh_interval: steps of a window, after which usage is read and codes are refreshed.
        vq_refresh_usage_threshold: a code is moved that was used less than this share of the mean code.
        vq_commitment: weight of the pull of embeddings towards their codes.
        connectivity: 4 or 8 neighbours of a cell belong to its object.
        one_color: objects end where colours change.
    """

    hidden_dim: Count = 256
    num_layers: Count = 3
    num_heads: Count = 4
    latent_dim: Count = 128
    num_embeddings: Count = 512
    vq_enabled: bool = True
    vq_decay: Fraction = 0.99
    vq_refresh_enabled: bool = True
    vq_refresh_interval: Count = 50
    vq_refresh_usage_threshold: Fraction = 0.01
    vq_commitment: NonNegative = 0.25
    connectivity: Literal[4, 8] = 8
    one_color: bool = True

    def __post_init__(self) -> None:
        if self.hidden_dim % self.num_heads:
            raise ConfigError(f"hidden_dim must be a multiple of num_heads = {self.num_heads}; got {self.hidden_dim}")


def require_learnable(temperature: float, learnable: bool) -> None:
    """Checks that a temperature is one that learning may reach.

    Raises:
        ConfigError: it is not.
    """
    if learnable and temperature > 1:
        raise ConfigError(f"temperature must be 0.01..1 with learnable_temperature true; got {temperature:g}")


@dataclass(frozen=True)
class LossConfig:
    """What is minimised: the contrastive loss plus weighted others; a weight of 0 switches a part off.

    Attributes:
        temperature: of cosines; where it is learnable, where it starts.
        queue_size: earlier targets that serve as negatives.
        relational_weight: objects' similarities stay those of their tokens.
        color_weight, translation_weight, symmetry_weight: latents change little under these.
        target: "ema" predicts latents of averaged weights, "stop_gradient" those of the same weights.
        target_decay: of these averages, a step.
    """

    objective: Literal["infonce"] = "infonce"
    temperature: Annotated[float, Range(0.01, 100)] = 0.07
    learnable_temperature: bool = False
    queue_size: CountOrZero = 4096
    relational_weight: NonNegative = 0.05
    color_weight: NonNegative = 0.0
    translation_weight: NonNegative = 0.0
    symmetry_weight: NonNegative = 0.0
    target: Literal["ema", "stop_gradient"] = "ema"
    target_decay: Fraction = 0.99

    def __post_init__(self) -> None:
        require_learnable(self.temperature, self.learnable_temperature)


@dataclass(frozen=True)
class SigregConfig:
    """Sketched isotropic Gaussian regularisation.

    Attributes:
        num_slices: random directions a step.
        num_points: nodes of the integral over 0..3.
        integration: "trapezoid" is the published rule, "gauss_legendre" that of the training guide.
    """

    weight: NonNegative = 0.0
    num_slices: Count = 1024
    num_points: Annotated[int, Range(2)] = 17
    integration: Literal["trapezoid", "gauss_legendre"] = "trapezoid"


@dataclass(frozen=True)
class AugmentationConfig:
    """Attributes:
    mask_ratio: share of an input's objects that the context does not show.
    palette_permutation: colours but black renamed alike in a whole task.
    """

    mask_ratio: Fraction = 0.2
    palette_permutation: bool = True


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW; the rate rises linearly for `warmup_steps` and falls as a cosine to a tenth."""

    lr: Positive = 5e-5
    weight_decay: NonNegative = 0.01
    warmup_steps: CountOrZero = 1000
    gradient_clip: NonNegative = 1.0


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """Attributes:
    patience: epochs without a validation loss better by `min_delta` after which to stop.
    """

    enabled: bool = False
    patience: Count = 4
    min_delta: NonNegative = 0.01


@dataclass(frozen=True)
class TrainingConfig:
    """Attributes:
    batch_size: tasks of an optimiser step, over all processes and accumulated parts.
    grad_accum_steps: parts that a step's batch is split into.
    pairs_per_task: pairs of a task in a batch, each predicted with the others as its demonstrations.
    mixed_precision: of autocast on a GPU; the CPU computes in float32.
    """

    epochs: Count = 30
    batch_size: Count = 1024
    grad_accum_steps: Count = 2
    pairs_per_task: Annotated[int, Range(2)] = 4
    mixed_precision: Literal["fp16", "bf16", "none"] = "none"
    seed: CountOrZero = 0
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)

    def __post_init__(self) -> None:
        if self.batch_size % self.grad_accum_steps:
            raise ConfigError(
                f"batch_size must be a multiple of grad_accum_steps = {self.grad_accum_steps}; got {self.batch_size}"
            )

    @property
    def precision(self) -> Precision:
        """Of autocast."""
        return {"fp16": "float16", "bf16": "bfloat16", "none": "float32"}[self.mixed_precision]  # type: ignore[return-value]


@dataclass(frozen=True)
class DataConfig:
    """Attributes:
    tasks: data spec of tasks whose every pair is learnt; null for those of `curriculum`.
    curriculum: file in configs/data; its tasks are generated if they are not in data/ yet.
    held_out: share of the tasks, chosen by their content, that is kept for validation.
    max_tasks: use only the first of the tasks; null for all.
    solved_within: learn only from tasks that a search of so many programs solves, which is told nothing of latents, so
        that the others lie far; null for all.
    """

    tasks: str | None = None
    curriculum: str = "jepa_quick"
    held_out: Annotated[float, Range(0, 0.9)] = 0.1
    max_tasks: Count | None = None
    solved_within: Count | None = None


@dataclass(frozen=True)
class PreTokenizedConfig:
    """Attributes:
    path: folder that pretokenize-jepa wrote for the same tasks; null to compute the tokens at the start.
    """

    path: str | None = None


@dataclass(frozen=True)
class ValidationConfig:
    """Attributes:
    max_tasks: of the held-out ones that are scored after each epoch.
    keep_last: checkpoints to keep beside the best.
    """

    max_tasks: Count = 500
    keep_last: Count = 3
    log_every_steps: Count = 10


@dataclass(frozen=True)
class DeviceChoice:
    """Where to compute."""

    name: Device = "auto"


@dataclass(frozen=True)
class JepaConfig:
    """The whole."""

    object_encoder: EncoderConfig = field(default_factory=EncoderConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    sigreg: SigregConfig = field(default_factory=SigregConfig)
    augmentations: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    pre_tokenized: PreTokenizedConfig = field(default_factory=PreTokenizedConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    device: DeviceChoice = field(default_factory=DeviceChoice)

    @property
    def precision(self) -> Precision:
        """Of autocast on a GPU."""
        return self.training.precision


OLD_KEYS = OldKeys(
    renamed={
        "mixed-precision": "training.mixed_precision",
        "training.queue_size": "loss.queue_size",
        "training.temperature": "loss.temperature",
        "training.learnable_temperature": "loss.learnable_temperature",
        "training.max_grad_norm": "optimizer.gradient_clip",
    },
    needless={
        "training.num_workers": "tokens lie in memory, without loader workers; pretokenize-jepa spares making them",
        "training.pin_memory": "tokens lie on the device, there is nothing to pin",
        "training.checkpoint_dir": "a run's folder has its checkpoints; --run-dir chooses it",
        "logging.enabled": "metrics.jsonl and TensorBoard are always written",
        "logging.log_dir": "TensorBoard's files lie in the run's folder",
        "logging.flush_secs": "every logged step is flushed",
    },
)
