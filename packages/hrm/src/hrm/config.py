"""Configuration of HRM, TRM and the transformer. Model keys keep the published names; recipes are in `configs/hrm/`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from arc_core.config import Count, CountOrZero, Fraction, NonNegative, OldKeys, Positive, Range
from arc_core.errors import ConfigError
from arc_core.grid import MAX_SIDE
from arc_core.settings import DeviceConfig, Precision

METHOD = "hrm"
TRAIN_COMMAND = "uv run --package hrm train-hrm"


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network.

    Attributes:
        architecture: "hrm" has two stacks, "trm" one for both, "transformer" one that runs once a segment.
        hidden_size: D.
        num_heads: of attention; D / num_heads must be even.
        H_layers: of HRM's slow stack; not used by the others.
        L_layers: of the fast stack, or of the only one.
        H_cycles, L_cycles: updates a segment; not used by the transformer.
        expansion: of the feed-forward layer.
        puzzle_emb_ndim: channels of a puzzle's embedding; 0 for none.
        puzzle_emb_len: prefix tokens that it fills; 0 for as few as it needs.
        pos_encodings: rotary or learned.
        halt_max_steps: most segments.
        halt_exploration_prob: share of training segments that must go on for a random number of segments.
        no_ACT_continue: halt when the value of halting is above 0, and do not learn that of going on.
        dropout: of what attention and feed-forward layers add.
        gradient_checkpointing: compute activations again in the backward pass to save memory.
        vocab_size, seq_len: 12 tokens and 900 cells for ARC; others for imported checkpoints of other puzzles.
    """

    architecture: Literal["hrm", "trm", "transformer"] = "hrm"
    hidden_size: Count = 512
    num_heads: Count = 8
    H_layers: Count = 4
    L_layers: Count = 4
    H_cycles: Count = 2
    L_cycles: Count = 2
    expansion: Positive = 4.0
    puzzle_emb_ndim: CountOrZero = 512
    puzzle_emb_len: CountOrZero = 0
    pos_encodings: Literal["rope", "learned"] = "rope"
    rope_theta: Positive = 10000.0
    rms_norm_eps: Positive = 1e-5
    halt_max_steps: Count = 16
    halt_exploration_prob: Fraction = 0.1
    no_ACT_continue: bool = False
    dropout: Annotated[float, Range(0, 0.9)] = 0.0
    gradient_checkpointing: bool = False
    vocab_size: Count = 12
    seq_len: Count = MAX_SIDE**2

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.num_heads):
            raise ConfigError(
                f"hidden_size must be a multiple of 2 * num_heads = {2 * self.num_heads} (rotary positions); "
                f"got {self.hidden_size}"
            )
        if self.puzzle_emb_len and self.puzzle_emb_ndim > self.puzzle_emb_len * self.hidden_size:
            raise ConfigError(
                f"puzzle_emb_ndim must fit into puzzle_emb_len tokens of hidden_size = "
                f"{self.puzzle_emb_len * self.hidden_size} channels; got {self.puzzle_emb_ndim}"
            )

    @property
    def prefix_tokens(self) -> int:
        """P, tokens that the puzzle embedding fills."""
        if not self.puzzle_emb_ndim:
            return 0
        return self.puzzle_emb_len or -(-self.puzzle_emb_ndim // self.hidden_size)


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation.

    Attributes:
        max_steps: optimiser steps of the run.
        batch_size: sequences of one forward pass, over all processes.
        gradient_accumulation_steps: forward passes an optimiser step.
        optimizer: "adam_atan2" is what the papers use; "muon" is for matrices, with AdamW beside it.
        warmup_steps: linear, from 0.
        lr_min_ratio: of the cosine schedule's end; 1 keeps the rate.
        beta1, beta2: of Adam.
        puzzle_emb_lr, puzzle_emb_weight_decay: of the embeddings' sign-SGD.
        gradient_clip: largest gradient norm; 0 for none, as published.
        loss_type: of the answer's tokens.
        ema_decay: of averaged weights, which validation and solving then use; null for none.
        early_stopping: validations without a better score after which to stop; 0 for never.
    """

    max_steps: Count = 100_000
    batch_size: Count = 768
    gradient_accumulation_steps: Count = 1
    optimizer: Literal["adamw", "adam_atan2", "muon"] = "adam_atan2"
    learning_rate: Positive = 1e-4
    scheduler: Literal["cosine", "constant"] = "cosine"
    warmup_steps: CountOrZero = 2000
    lr_min_ratio: Fraction = 1.0
    weight_decay: NonNegative = 0.1
    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
    puzzle_emb_lr: NonNegative = 1e-2
    puzzle_emb_weight_decay: NonNegative = 0.1
    gradient_clip: NonNegative = 0.0
    loss_type: Literal["stablemax_cross_entropy", "softmax_cross_entropy"] = "stablemax_cross_entropy"
    ema_decay: Annotated[float, Range(0, 1)] | None = None
    early_stopping: CountOrZero = 0
    seed: CountOrZero = 0


@dataclass(frozen=True)
class DataConfig:
    """What is trained on.

    Attributes:
        train: data spec of a training set, all pairs of which are learnt.
        transductive: data spec whose demonstrations, and never whose tests, are learnt too; null for none.
        dataset: folder that build-arc-dataset wrote, read in place of `train` and `transductive`; null for none.
        max_tasks: use only this many tasks, chosen by their ids alone; null for all.
        max_side: use only tasks whose grids are no longer or wider.
        num_augmentations: views of each task beside its own; each has an embedding of its own.
        held_out_views: of each task's last views the test pairs are kept for validation. Such a view's embedding is
            learnt from its demonstrations, and its test pairs may be learnt in other views.
        translation: move grids about the canvas.
        canvas: "bucket" computes on the smallest canvas that holds a batch, "full" on 30 x 30 as published.
    """

    train: str = "arc1:train"
    transductive: str | None = None
    dataset: str | None = None
    max_tasks: Count | None = None
    max_side: Annotated[int, Range(1, MAX_SIDE)] = MAX_SIDE
    num_augmentations: CountOrZero = 1000
    held_out_views: CountOrZero = 1
    translation: bool = True
    canvas: Literal["bucket", "full"] = "bucket"


@dataclass(frozen=True)
class ValidationConfig:
    """When to validate, save and log.

    Attributes:
        eval_frequency: steps between validations.
        checkpoint_frequency: steps between saves beside those of validations; 0 for none.
        max_puzzles: most validation sequences.
        keep_last: checkpoints to keep beside the best.
        log_every_steps: training metrics.
        wandb: log to Weights & Biases too, offline; needs the extra `hrm[wandb]`.
    """

    eval_frequency: Count = 1000
    checkpoint_frequency: CountOrZero = 0
    max_puzzles: Count = 400
    keep_last: Count = 3
    log_every_steps: Count = 10
    wandb: bool = False


@dataclass(frozen=True)
class EvaluationConfig:
    """How new tasks are answered.

    Attributes:
        adapt_steps: sign-SGD steps that fit the embedding of a task that was not trained on to its demonstrations; 0
            leaves the blank one.
        adapt_lr: of these steps.
        stop_early: end when every sequence of a batch wants to halt.
    """

    adapt_steps: CountOrZero = 32
    adapt_lr: Positive = 1e-2
    stop_early: bool = True


@dataclass(frozen=True)
class HrmConfig:
    """The whole."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    @property
    def precision(self) -> Precision:
        """Of autocast on a GPU."""
        return self.device.precision


OLD_KEYS = OldKeys(
    renamed={
        "model.num_h_layers": "model.H_layers",
        "model.num_l_layers": "model.L_layers",
        "model.max_cycles": "model.halt_max_steps",
        "model.forward_dtype": "device.dtype",
        "training.mixed_precision": "device.mixed_precision",
        "training.eval_frequency": "validation.eval_frequency",
        "training.checkpoint_frequency": "validation.checkpoint_frequency",
    },
    needless={
        "model.batch_size": "batches are set by training.batch_size",
        "data.max_grid_size": "ARC's grids are at most 30 x 30; data.max_side leaves larger tasks out",
        "data.num_workers": "tasks stay on the device, there are no loader workers to set up",
        "data.pin_memory": "tasks stay on the device, there is nothing to pin",
        "data.persistent_workers": "tasks stay on the device, there are no loader workers to keep",
    },
)
