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

# The pilot curriculum's steps, and others that make sense on any grid: 64 actions, colours counted.
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
    """Sizes of the program's network.

    Attributes:
        embedding_dim: of an action and of its arguments.
        hidden_dim, num_layers: of the GRU over a program's actions.
        transition_dim: hidden channels of the transition.
    """

    embedding_dim: Count = 64
    hidden_dim: Count = 128
    num_layers: Count = 2
    transition_dim: Count = 256


@dataclass(frozen=True)
class ProgramLossConfig:
    """What is minimised: telling what a program makes of a grid from other grids.

    Attributes:
        temperature: of cosines; where it is learnable, where it starts.
        queue_size: outcomes of earlier batches that serve as negatives.
        inverse_weight: of telling from two latents which action a program between them begins with.
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
    """Attributes:
    batch_size: grids of an optimiser step, over all processes.
    outcomes_per_grid: programs applied to each of them; what they make is each other's hardest negative.
    program_length: most actions of a program.
    mixed_precision: of autocast on a GPU; the CPU computes in float32.
    """

    epochs: Count = 30
    batch_size: Count = 256
    outcomes_per_grid: Count = 4
    program_length: Count = 4
    mixed_precision: Literal["fp16", "bf16", "none"] = "none"
    seed: CountOrZero = 0

    @property
    def precision(self) -> Precision:
        """Of autocast."""
        return {"fp16": "float16", "bf16": "bfloat16", "none": "float32"}[self.mixed_precision]  # type: ignore[return-value]


@dataclass(frozen=True)
class TriplesConfig:
    """Attributes:
    curriculum: file in configs/data whose tasks become triples where `dataset_triples` is null.
    explored: other actions that are tried on each grid of a trace.
    held_out: share of the tasks, chosen by their names, that is kept for validation.
    """

    curriculum: str = "active_quick"
    explored: CountOrZero = 3
    held_out: Annotated[float, Range(0.01, 0.9)] = 0.1


@dataclass(frozen=True)
class ProgramValidationConfig:
    """Attributes:
    max_triples: of the held-out ones that are scored after each epoch.
    keep_last: checkpoints to keep beside the best.
    """

    max_triples: Annotated[int, Range(64)] = 2048
    keep_last: Count = 3
    log_every_steps: Count = 10


@dataclass(frozen=True)
class ProgramJepaConfig:
    """The whole.

    Attributes:
        dataset_triples: file that prepare-program-triples wrote; null for that of `triples.curriculum`.
        actions: steps that programs are made of; those with a colour count nine times.
        max_actions: that there may be.
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
        """Of autocast on a GPU."""
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
