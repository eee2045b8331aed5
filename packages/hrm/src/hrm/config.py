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
    """Sizes of the network, under the published names.

    Attributes:
        architecture: "hrm" has two stacks of blocks, one for each level; "trm" has one stack for both levels;
            "transformer" has one stack that runs once a segment.
        hidden_size: D, channels of a token. Raising it adds capacity; time and memory grow with its square. Usually 64
            to 512.
        num_heads: attention heads; D / num_heads must be even. Raising it splits the same channels over more attention
            patterns. Usually 4 to 16.
        H_layers: blocks of HRM's slow stack; the other architectures ignore it. Raising it makes an update of z_H
            stronger and slower. Usually 1 to 6.
        L_layers: blocks of the fast stack, or of the only one. Raising it makes an update stronger and slower. Usually
            1 to 4, and 8 for the transformer.
        H_cycles: updates of z_H a segment; the transformer ignores it. Raising it reasons longer before each answer, in
            more time and no more memory. Usually 2 to 4.
        L_cycles: updates of z_L for each update of z_H; the transformer ignores it. Raising it costs time, and in TRM
            also memory, since all of its last cycle is backpropagated. Usually 2 to 8.
        expansion: inner channels of the feed-forward layer over D, before SwiGLU's factor of 2/3. Raising it adds
            capacity, time and memory. Usually 4.
        puzzle_emb_ndim: E, channels of a puzzle's embedding; 0 for none. Raising it lets embeddings hold more about
            their task and stores more numbers for every view. Usually D.
        puzzle_emb_len: prefix tokens that the embedding fills, padded with zeros; 0 for as few as it needs. Raising it
            makes every sequence longer. Usually 0 (HRM) or 16 (TRM).
        pos_encodings: "rope" rotates queries and keys by position; "learned" adds a vector for each position.
        rope_theta: base of the rotary wavelengths. Raising it makes attention depend less on distance. Usually 10000.
        rms_norm_eps: added to the mean square in every normalisation. Raising it damps small activations. Usually 1e-6
            to 1e-5.
        halt_max_steps: largest number of segments. Raising it reasons longer on hard tasks and makes solving slower in
            proportion. Usually 1 (no halting) to 16.
        halt_exploration_prob: share of training segments that may not halt before a random number of segments. Raising
            it trains on longer reasoning and on fewer examples. Usually 0 to 0.2.
        no_ACT_continue: true halts when q_halt is above 0 and does not learn q_continue, as TRM, which saves a second
            forward pass a step; false halts when q_halt is above q_continue, as HRM.
        dropout: share of the channels zeroed in training in what attention and feed-forward layers add. Raising it
            regularises and slows fitting. Usually 0, as published, to 0.1.
        gradient_checkpointing: recompute activations in the backward pass, for less memory and about a third more time.
        vocab_size: V, number of tokens: 12 for ARC, others for imported checkpoints of other puzzles.
        seq_len: cells of the full canvas: 900 for ARC, others for imported checkpoints of other puzzles.
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
        """P, number of tokens in front of the cells that the puzzle embedding fills."""
        if not self.puzzle_emb_ndim:
            return 0
        return self.puzzle_emb_len or -(-self.puzzle_emb_ndim // self.hidden_size)


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation.

    Attributes:
        max_steps: optimiser steps of the run. Raising it fits better, in more time. Usually 500 to 200000.
        batch_size: sequences of one forward pass, over all processes. Raising it gives steadier gradients and needs
            more memory. Usually 8 to 768.
        gradient_accumulation_steps: forward passes an optimiser step. Raising it gives steadier gradients for more
            time and no more memory. Usually 1 to 8.
        optimizer: "adam_atan2" is what the papers use; "adamw" is the common choice; "muon" is for the blocks'
            matrices, with AdamW for the rest.
        learning_rate: largest learning rate of the network's weights. Raising it learns faster, until training
            diverges. Usually 1e-4 for large models to 1.5e-3 for small ones.
        scheduler: the learning rate after the warm-up: "cosine" falls to `lr_min_ratio`, "constant" stays.
        warmup_steps: steps over which the learning rate rises linearly from 0. Raising it steadies the beginning.
            Usually 1 to 10% of the run.
        lr_min_ratio: learning rate at the end of the cosine over the largest one; 1 keeps it constant. Raising it
            learns on until the end but settles less. Usually 0 to 1.
        weight_decay: share by which weights shrink per unit of learning rate. Raising it regularises, and underfits in
            the end. Usually 0.01 to 1.
        beta1: Adam's decay of the mean gradient. Raising it averages over more steps. Usually 0.9.
        beta2: Adam's decay of the mean squared gradient. Raising it averages over more steps. Usually 0.95 to 0.999.
        puzzle_emb_lr: learning rate of the puzzle embeddings' sign-SGD, which moves each channel by just so much.
            Raising it learns views faster and less exactly. Usually 1e-2.
        puzzle_emb_weight_decay: share by which the embeddings of a batch shrink per unit of `puzzle_emb_lr`. Raising it
            keeps them smaller. Usually 0.1.
        gradient_clip: largest gradient norm, to which larger gradients are scaled down; 0 for none, as published.
            Raising it clips less often. Usually 0 or 1.
        loss_type: cross-entropy of the answer's tokens by stablemax, as published, or by softmax.
        ema_decay: decay of the exponential average of weights that validation and solving use; null for none. Raising
            it averages over more steps. Usually 0.99 to 0.9999.
        early_stopping: validations without a better score after which training stops; 0 for never. Raising it waits
            longer. Usually 0 to 20.
        seed: seed of weights, views, order of examples, translation and exploration; any whole number. Runs with the
            same seed are equal.
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
        train: data spec of a training set such as "arc1:train", all pairs of which are learnt.
        transductive: data spec whose demonstrations, and never whose tests, are learnt too; null for none. Every result
            then says so.
        dataset: folder that build-arc-dataset wrote, read in place of `train` and `transductive`; null for none.
        max_tasks: use only this many tasks, chosen by their ids alone; null for all. Raising it needs longer training.
            Usually 8 to 400.
        max_side: use only tasks whose grids have no longer side, in cells. Raising it admits larger grids, whose
            batches are slower. Usually 6 to 30.
        num_augmentations: views of each task beside its own, each with an embedding of its own. Raising it generalises
            better and takes longer to learn. Usually 0 to 1000.
        held_out_views: number of each task's last views whose test pairs are kept for validation. Their embeddings are
            learnt from the demonstrations, and the same pairs may be learnt in other views. Raising it validates more
            precisely on fewer training pairs. Usually 1 to 3.
        translation: move grids about the canvas at random in training, so that answers do not depend on their position.
        canvas: "bucket" computes on the smallest canvas that holds a batch, which is several times faster; "full"
            computes on 30 x 30, as published.
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
        eval_frequency: optimiser steps between validations, each of which saves a checkpoint. Raising it validates less
            often and trains faster. Usually 100 to 10000.
        checkpoint_frequency: optimiser steps between saves beside those of validations; 0 for none. Raising it loses
            more work when a run is killed. Usually 0 to 2500.
        max_puzzles: largest number of validation sequences, spread over the tasks. Raising it scores more precisely and
            takes longer. Usually 100 to 400.
        keep_last: newest checkpoints to keep beside the best. Raising it takes more room on the disk. Usually 1 to 10.
        log_every_steps: optimiser steps between logs of training metrics. Raising it makes smaller logs. Usually 1 to
            100.
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
    """How tasks are answered that were not learnt.

    Attributes:
        adapt_steps: sign-SGD steps that fit the embedding of a new task to its demonstrations; 0 leaves the blank one.
            Raising it fits better and takes longer in proportion. Usually 0 to 100.
        adapt_lr: learning rate of these steps, which falls to a tenth. Raising it fits faster and less exactly. Usually
            1e-3 to 1e-2.
        stop_early: end when every sequence of a batch prefers to halt; false always runs `model.halt_max_steps`
            segments.
    """

    adapt_steps: CountOrZero = 32
    adapt_lr: Positive = 1e-2
    stop_early: bool = True


@dataclass(frozen=True)
class HrmConfig:
    """Everything that a recipe of `configs/hrm` may set, by section."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    @property
    def precision(self) -> Precision:
        """Precision of autocast on a GPU."""
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
