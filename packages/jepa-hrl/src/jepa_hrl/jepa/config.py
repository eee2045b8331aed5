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
    """The encoder from object tokens to a latent.

    Attributes:
        hidden_dim: channels of the transformer's tokens. More capacity at a cost that grows with its square;
            usually 48 to 256.
        num_layers: layers of the transformer. More relate objects over more steps and cost time in proportion;
            usually 1 to 3.
        num_heads: attention heads of each layer; they divide hidden_dim. More heads attend to more relations with fewer
            channels each; usually 2 to 8.
        latent_dim: channels of a grid's latent. A larger latent keeps more detail but is harder to fill evenly;
            usually 16 to 128.
        num_embeddings: codes of the vector quantiser. More codes tell more kinds of objects apart, and more of them
            stay unused; usually 64 to 512.
        vq_enabled: whether objects' embeddings are replaced by their nearest codes.
        vq_decay: decay of the moving averages that the codes are, for each step. Nearer to 1 codes move more slowly;
            usually 0.9 to 0.999.
        vq_refresh_enabled: whether little used codes are moved onto objects of the batch.
        vq_refresh_interval: optimiser steps between two measurements of usage, after each of which codes are
            refreshed. A longer interval judges a code on more objects; usually 10 to 100.
        vq_refresh_usage_threshold: a code is moved if it was used less than this share of the mean code's use. Raised,
            more codes are moved; usually 0.01 to 0.1.
        vq_commitment: weight of the pull of embeddings towards their codes. Raised, embeddings follow codes more
            closely and carry less detail; usually 0.1 to 1.
        connectivity: how many neighbours of a cell belong to its object. With 4, cells that touch at a corner only are
            different objects.
        one_color: whether an object ends where the colour changes. If not, touching cells of all colours are one
            object.
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
    """Checks that a learnable temperature starts within the range that learning is clamped to, 0.01..1.

    Raises:
        ConfigError: it starts outside of the range.
    """
    if learnable and temperature > 1:
        raise ConfigError(f"temperature must be 0.01..1 with learnable_temperature true; got {temperature:g}")


@dataclass(frozen=True)
class LossConfig:
    """The objective: the contrastive loss plus weighted other losses; a weight of 0 switches a loss off.

    Attributes:
        objective: the main loss; InfoNCE is the only one there is.
        temperature: what cosines are divided by; a learnable temperature starts here. Raised, near negatives count
            less; usually 0.05 to 0.2.
        learnable_temperature: whether the temperature is learned, within 0.01..1.
        queue_size: earlier targets that serve as further negatives. More make the task harder, but they are of
            older weights; usually 0 to 8192.
        relational_weight: weight of keeping the similarities among a grid's objects those of their tokens. Raised,
            embeddings stay closer to the tokens; usually 0 to 0.1.
        color_weight: weight of keeping a grid's latent under permutations of its colours. Raised, latents forget
            colours; usually 0 to 0.05.
        translation_weight: weight of keeping a grid's latent when all its objects move together. Raised, latents
            forget positions; usually 0 to 0.05.
        symmetry_weight: weight of keeping a grid's latent under rotations and reflections. Raised, latents forget
            orientation; usually 0 to 0.05.
        target: whose latents are predicted. "ema" takes an encoder of averaged weights, "stop_gradient" the encoder
            itself.
        target_decay: decay of the averaged weights, for each step. Nearer to 1 targets are steadier and older;
            usually 0.99 to 0.999.
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
    """Sketched isotropic Gaussian regularisation (SIGReg) of the latents.

    Attributes:
        weight: weight of the regularisation in the objective; 0 switches it off. Raised, latents fill their space more
            evenly and fit the data less; usually 0.05 to 0.2.
        num_slices: random directions that latents are projected onto in each step. More test more directions and cost
            time in proportion; usually 64 to 1024.
        num_points: nodes of the integral over 0..3. More integrate more exactly; usually 17.
        integration: the quadrature rule. "trapezoid" is the published one, "gauss_legendre" that of the training
            guide.
    """

    weight: NonNegative = 0.0
    num_slices: Count = 1024
    num_points: Annotated[int, Range(2)] = 17
    integration: Literal["trapezoid", "gauss_legendre"] = "trapezoid"


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of the pairs that are learned from.

    Attributes:
        mask_ratio: share of an input's objects that the context encoder does not see. Raised, predictions rest more on
            the other objects, and what is hidden cannot be predicted; usually 0 to 0.2.
        palette_permutation: whether the colours of a task, black apart, are permuted, alike in all its grids.
    """

    mask_ratio: Fraction = 0.2
    palette_permutation: bool = True


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, whose learning rate rises linearly and then falls along a cosine to a tenth.

    Attributes:
        lr: learning rate at its peak. Raised, training is faster until it becomes unstable; usually 5e-5 (large
            networks) to 5e-3 (small ones).
        weight_decay: decoupled decay of the weights. Raised, weights stay smaller; usually 0 to 0.1.
        warmup_steps: optimiser steps of the linear rise, at most half of the run. Raised, the start is steadier and
            slower; usually 10 to 1000.
        gradient_clip: largest norm of the gradient, above which it is scaled down; 0 for no limit. Lowered, outlying
            batches count less; usually 1.
    """

    lr: Positive = 5e-5
    weight_decay: NonNegative = 0.01
    warmup_steps: CountOrZero = 1000
    gradient_clip: NonNegative = 1.0


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """Ends training once the validation loss no longer improves.

    Attributes:
        enabled: whether training may end early.
        patience: epochs without improvement after which training ends. Raised, longer plateaus are sat out; usually 3
            to 10.
        min_delta: fall of the validation loss that counts as an improvement. Raised, training ends earlier; usually
            0.001 to 0.05.
    """

    enabled: bool = False
    patience: Count = 4
    min_delta: NonNegative = 0.01


@dataclass(frozen=True)
class TrainingConfig:
    """Length and batches of the training.

    Attributes:
        epochs: passes over the tasks. More fit better at a cost in proportion; usually 6 to 40.
        batch_size: tasks in an optimiser step, over all processes and accumulated parts. Larger batches have more
            negatives and need more memory; usually 32 to 1024.
        grad_accum_steps: parts that a step's batch is split into, one after another. More need less memory, and fewer
            negatives are in a part; usually 1 to 4.
        pairs_per_task: pairs of a task in a batch, each predicted with the others as its demonstrations. More show a
            task better and cost time; usually 3 or 4.
        mixed_precision: number format of the matrix products on a GPU; the CPU always computes in float32.
        seed: seed of the weights, the order of the tasks and all other random choices.
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
        """Returns the precision of autocast, in arc_core's words."""
        return {"fp16": "float16", "bf16": "bfloat16", "none": "float32"}[self.mixed_precision]  # type: ignore[return-value]


@dataclass(frozen=True)
class DataConfig:
    """Which tasks are learned from.

    Attributes:
        tasks: data spec of the tasks, whose every pair is learned from; null for those of `curriculum`.
        curriculum: file in configs/data; its tasks are generated if they are not in data/ yet.
        held_out: share of the tasks, chosen by a hash of their content, that is kept for validation. Raised, validation
            is more exact and less is learned from; usually 0.1.
        max_tasks: number of tasks that are used, from the first on; null for all.
        solved_within: learn only from tasks that a program search solves within so many programs, so that the latents
            of other tasks are predicted badly; null for all tasks. Usually 60.
    """

    tasks: str | None = None
    curriculum: str = "jepa_quick"
    held_out: Annotated[float, Range(0, 0.9)] = 0.1
    max_tasks: Count | None = None
    solved_within: Count | None = None


@dataclass(frozen=True)
class PreTokenizedConfig:
    """Tokens that were computed beforehand.

    Attributes:
        path: folder that pretokenize-jepa wrote for the same tasks; null to compute the tokens at the start.
    """

    path: str | None = None


@dataclass(frozen=True)
class ValidationConfig:
    """Validation, checkpoints and logging.

    Attributes:
        max_tasks: held-out tasks that are scored after each epoch. More make the metrics steadier and the retrieval
            harder; usually 200 to 500.
        keep_last: newest checkpoints to keep beside the best. Raised, a run takes more disk space; usually 3.
        log_every_steps: optimiser steps between two lines of training metrics. Raised, curves are coarser and files
            smaller; usually 10 to 100.
    """

    max_tasks: Count = 500
    keep_last: Count = 3
    log_every_steps: Count = 10


@dataclass(frozen=True)
class DeviceChoice:
    """The device to compute on.

    Attributes:
        name: "auto" takes a GPU where there is one.
    """

    name: Device = "auto"


@dataclass(frozen=True)
class JepaConfig:
    """All settings of a JEPA's training, one section for each part."""

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
        """Returns the precision of autocast on a GPU."""
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
