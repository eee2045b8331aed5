"""Configuration of the program-conditioned JEPA. Keys keep the names of the training guide."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from arc_core.config import Count, CountOrZero, NonNegative, OldKeys, Range
from arc_core.errors import ConfigError
from arc_core.settings import Precision
from jepa_hrl.jepa.config import OLD_KEYS as JEPA_OLD_KEYS
from jepa_hrl.jepa.config import DeviceChoice, EncoderConfig, OptimizerConfig, SigregConfig, require_learnable

METHOD = "program-jepa"
TRAIN_COMMAND = "uv run --package jepa-hrl train-program-conditioned-jepa"

# The pilot curriculum's steps, and others that make sense on any grid: 64 actions with their colours.
STEPS = (
    "flip_horizontal", "flip_vertical", "rotate_90", "rotate_180", "rotate_270", "transpose", "recolor", "trim",
    "compress", "mirror_right", "mirror_down", "tile_across", "upscale_2", "fall_down", "fall_left", "rays_right",
    "rays_down", "fill_holes", "keep_most_frequent", "keep_color", "crop_largest", "keep_largest",
    "anti_transpose", "roll_up", "roll_down", "roll_left", "roll_right", "top_half", "bottom_half", "left_half",
    "right_half", "upscale_3", "tile_down", "self_tile", "framed", "mirror_left", "mirror_up", "mirror_four",
    "rotated_four", "with_mirrored_across", "with_mirrored_down", "fall_up", "fall_right", "drop_down", "drop_left",
    "rays_up", "rays_left", "join_across", "join_down", "grow", "hollow", "fill_boxes", "denoise",
    "keep_least_frequent", "exchange_two", "negative",
)  # fmt: skip


@dataclass(frozen=True)
class ProgramEncoderConfig:
    """The encoder of programs and the transition between latents.

    Attributes:
        embedding_dim: channels of the embedding of an action and its arguments. More tell actions apart more easily;
            usually 32 to 128.
        hidden_dim: channels of the GRU over a program's actions. More hold longer programs and cost time; usually 64
            to 256.
        num_layers: layers of the GRU. More combine actions in more ways and cost time in proportion; usually 1 or 2.
        transition_dim: hidden channels of the transition. More predict outcomes more exactly and cost time; usually 128
            to 512.
    """

    embedding_dim: Count = 64
    hidden_dim: Count = 128
    num_layers: Count = 2
    transition_dim: Count = 256


@dataclass(frozen=True)
class ProgramLossConfig:
    """The objective: telling what a program makes of a grid from other grids.

    Attributes:
        objective: the main loss; InfoNCE is the only one there is.
        temperature: what cosines are divided by; a learnable temperature starts here. Raised, near negatives count
            less; usually 0.05 to 0.2.
        learnable_temperature: whether the temperature is learned, within 0.01..1.
        queue_size: outcomes of earlier batches that serve as further negatives. Raised, other grids count more and the
            other outcomes of the same grid, which are harder to tell apart, count less; usually 0.
        inverse_weight: weight of predicting from two latents the first action of the program between them. Raised,
            latents keep more of what actions change; usually 0.1 to 1.
    """

    objective: Literal["infonce"] = "infonce"
    temperature: Annotated[float, Range(0.01, 100)] = 0.07
    learnable_temperature: bool = False
    queue_size: CountOrZero = 4096
    inverse_weight: NonNegative = 1.0

    def __post_init__(self) -> None:
        require_learnable(self.temperature, self.learnable_temperature)


@dataclass(frozen=True)
class ProgramTrainingConfig:
    """Length and batches of the training.

    Attributes:
        epochs: passes over the grids. More fit better at a cost in proportion; usually 3 to 30.
        batch_size: grids in an optimiser step, over all processes. Larger batches have more negatives and need more
            memory; usually 32 to 256.
        outcomes_per_grid: programs applied to each grid of a batch, whose outcomes are each other's hardest negatives.
            Raised, similar outcomes are told apart better, and a step takes longer; usually 4 to 16.
        program_length: largest number of actions of a program. Raised, longer programs are predicted in one go;
            usually 1 to 4.
        mixed_precision: number format of the matrix products on a GPU; the CPU always computes in float32.
        seed: seed of the weights, the order of the grids and all other random choices.
    """

    epochs: Count = 30
    batch_size: Count = 256
    outcomes_per_grid: Count = 4
    program_length: Count = 4
    mixed_precision: Literal["fp16", "bf16", "none"] = "none"
    seed: CountOrZero = 0

    @property
    def precision(self) -> Precision:
        """Returns the precision of autocast, in arc_core's words."""
        return {"fp16": "float16", "bf16": "bfloat16", "none": "float32"}[self.mixed_precision]  # type: ignore[return-value]


@dataclass(frozen=True)
class TriplesConfig:
    """The triples that are learned from.

    Attributes:
        curriculum: file in configs/data whose tasks become triples if `dataset_triples` is null.
        explored: other actions that are tried on each grid of a trace. Raised, more outcomes of the same grid are told
            apart, and the file grows in proportion; usually 3 to 15.
        held_out: share of the tasks, chosen by a hash of their names, that is kept for validation. Raised, validation
            is more exact and less is learned from; usually 0.1.
    """

    curriculum: str = "active_quick"
    explored: CountOrZero = 3
    held_out: Annotated[float, Range(0.01, 0.9)] = 0.1


@dataclass(frozen=True)
class ProgramValidationConfig:
    """Validation, checkpoints and logging.

    Attributes:
        max_triples: held-out triples that are scored after each epoch. More make the metrics steadier; usually 2048.
        keep_last: newest checkpoints to keep beside the best. Raised, a run takes more disk space; usually 3.
        log_every_steps: optimiser steps between two lines of training metrics. Raised, curves are coarser and files
            smaller; usually 10 to 100.
    """

    max_triples: Annotated[int, Range(64)] = 2048
    keep_last: Count = 3
    log_every_steps: Count = 10


@dataclass(frozen=True)
class ProgramJepaConfig:
    """All settings of a program-conditioned JEPA's training.

    Attributes:
        dataset_triples: file that prepare-program-triples wrote; null for the triples of `triples.curriculum`.
        actions: steps that programs are made of; a step with a colour counts as nine actions. More can express more
            programs, and outcomes are harder to tell apart.
        max_actions: largest number of actions, beyond which the config is refused. Usually 64.
    """

    dataset_triples: str | None = None
    triples: TriplesConfig = field(default_factory=TriplesConfig)
    actions: tuple[str, ...] = STEPS
    max_actions: Count = 64
    object_encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(vq_enabled=False))
    program_encoder: ProgramEncoderConfig = field(default_factory=ProgramEncoderConfig)
    loss: ProgramLossConfig = field(default_factory=ProgramLossConfig)
    sigreg: SigregConfig = field(default_factory=SigregConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: ProgramTrainingConfig = field(default_factory=ProgramTrainingConfig)
    validation: ProgramValidationConfig = field(default_factory=ProgramValidationConfig)
    device: DeviceChoice = field(default_factory=DeviceChoice)

    @property
    def precision(self) -> Precision:
        """Returns the precision of autocast on a GPU."""
        return self.training.precision

    def __post_init__(self) -> None:
        if self.object_encoder.vq_enabled:
            raise ConfigError(
                "object_encoder.vq_enabled must be false: what an action does shows in details that codes drop"
            )


OLD_KEYS = OldKeys(
    renamed={key: new for key, new in JEPA_OLD_KEYS.renamed.items() if not key.startswith("mixed")},
    needless=dict(JEPA_OLD_KEYS.needless) | {"training.grad_accum_steps": "a batch of grids fits; lower batch_size"},
)
