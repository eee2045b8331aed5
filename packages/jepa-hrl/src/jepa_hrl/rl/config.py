"""Configuration of the active reasoner. Keys keep the names of the training guide; recipes in `configs/`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from arc_core.config import Count, CountOrZero, Fraction, NonNegative, OldKeys, Positive, Range
from arc_core.errors import ConfigError
from arc_core.settings import Precision
from jepa_hrl.jepa.config import DeviceChoice

METHOD = "active-reasoner"
TRAIN_COMMAND = "uv run --package jepa-hrl train-active-reasoner"
CLONING_METHOD = "active-reasoner-bc"
CLONING_COMMAND = "uv run --package jepa-hrl pretrain-bc"


@dataclass(frozen=True)
class RewardConfig:
    """What an episode is paid.

    Attributes:
        success_distance: of latents below which the goal counts as reached, where the model tells.
        success_bonus: for reaching it.
        step_penalty: for every action but stopping.
        simplicity_weight: for every bit that an action adds to the program.
        shaping_weight: of the distance's fall from step to step, discounted so that the best policy stays the same
            (Ng, Harada and Russell 1999).
    """

    success_distance: NonNegative = 0.1
    success_bonus: float = 1.0
    step_penalty: NonNegative = 0.02
    simplicity_weight: NonNegative = 0.01
    shaping_weight: NonNegative = 0.0


@dataclass(frozen=True)
class EnvConfig:
    """The environment.

    Attributes:
        demonstrations: K, pairs of a task that are worked on at once.
        dynamics: "model" goes on from foreseen latents, "grounded" from those of the real grids.
        max_steps: actions after which an episode is cut off.
        undo: whether the last action may be taken back, which is an action too.
        gamma: of the potential shaping; the trainer's discount.
    """

    demonstrations: Count = 3
    dynamics: Literal["model", "grounded"] = "model"
    max_steps: Count = 8
    undo: bool = False
    gamma: Fraction = 0.95
    reward: RewardConfig = field(default_factory=RewardConfig)


@dataclass(frozen=True)
class TasksConfig:
    """Where problems come from.

    Attributes:
        curriculum: file in configs/data whose tasks are learnt from.
        manifest: tasks to learn from instead of the curriculum's; null for those.
        practice: problems that are drawn beside them, without the search for shorter rules.
        practice_curriculum: file in configs/data whose kinds of programs they are of.
        held_out: file in configs/data whose tasks measure.
        held_out_manifest: tasks that measure instead of those; null for those.
    """

    curriculum: str = "active_quick"
    manifest: str | None = None
    practice: CountOrZero = 20_000
    practice_curriculum: str = "active_practice"
    held_out: str = "active_held_out"
    held_out_manifest: str | None = None


@dataclass(frozen=True)
class PolicyConfig:
    """The network.

    Attributes:
        hidden_dim: channels.
        foresight: whether it is given how near the goal the model foresees each action to lead.
        dropout: share of what its layers read that is left out while it is cloned.
    """

    hidden_dim: Count = 256
    foresight: bool = True
    dropout: Fraction = 0.0


@dataclass(frozen=True)
class TrainerConfig:
    """How the policy learns.

    Attributes:
        algorithm: "ppo" with advantages, clipping and epochs; "reinforce" with whole returns and one pass.
        iterations: of gathering and learning.
        episodes_per_iter: episodes side by side, over all processes.
        steps_per_iter: steps of each in an iteration; episodes that end make room for new ones.
        lr: falls linearly to a tenth.
        gamma, gae_lambda: discount, and decay of generalised advantages.
        epochs, minibatches: passes over an iteration's steps, and parts of each pass.
        clip: of the probability ratio, and of values where clip_values is on.
        entropy, final_entropy: weight of the policy's entropy, from first to last iteration.
        value_weight: of the value's squared error.
        max_grad_norm: of the gradient; 0 for no limit.
        target_kl: ends an iteration's passes once the policy is further than this from where it began; 0 for never.
    """

    algorithm: Literal["ppo", "reinforce"] = "ppo"
    iterations: Count = 60
    episodes_per_iter: Count = 32
    steps_per_iter: Count = 32
    lr: Positive = 3e-4
    gamma: Fraction = 0.95
    gae_lambda: Annotated[float, Range(0, 1)] = 0.9
    epochs: Count = 4
    minibatches: Count = 8
    clip: Positive = 0.2
    clip_values: bool = False
    entropy: NonNegative = 0.01
    final_entropy: NonNegative = 0.001
    value_weight: NonNegative = 0.5
    max_grad_norm: NonNegative = 0.5
    target_kl: NonNegative = 0.03
    seed: CountOrZero = 0


@dataclass(frozen=True)
class CloningConfig:
    """Behavioural cloning: imitating the actions of known programs before anything is tried.

    Attributes:
        epochs: over all steps of all known traces; 0 to begin from scratch.
        batch_size: steps.
        strays: share of steps at which, shown what is right, another action is taken, the likelier the nearer the goal
            it is foreseen to lead; then to take it back is right. Needs env.undo.
        redraw: share of steps, others in every epoch, whose demonstrations are drawn from themselves anew, some of them
            twice and others not at all, so that none is relied on alone.
        ema_decay: of averaged weights, which are measured and taken over; null for none.
    """

    epochs: CountOrZero = 20
    batch_size: Count = 512
    lr: Positive = 1e-3
    weight_decay: NonNegative = 0.01
    strays: Fraction = 0.0
    redraw: Fraction = 0.0
    ema_decay: Annotated[float, Range(0, 1)] | None = None


@dataclass(frozen=True)
class ReportConfig:
    """Attributes:
    every: iterations, or epochs of cloning, between measurements on held-out tasks.
    keep_last: checkpoints to keep beside the best.
    """

    every: Count = 5
    keep_last: Count = 3


@dataclass(frozen=True)
class ReasonerConfig:
    """The whole.

    Attributes:
        program_checkpoint: run or checkpoint of train-program-conditioned-jepa; null for the newest, made if missing.
        policy_checkpoint: run or checkpoint of pretrain-bc to begin with; null for the newest of the same JEPA, made if
            missing.
    """

    program_checkpoint: str | None = None
    policy_checkpoint: str | None = None
    env: EnvConfig = field(default_factory=EnvConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    cloning: CloningConfig = field(default_factory=CloningConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    device: DeviceChoice = field(default_factory=DeviceChoice)

    @property
    def precision(self) -> Precision:
        """Of what is learnt: the policy is small, so that autocast would not pay."""
        return "float32"

    def __post_init__(self) -> None:
        if self.env.gamma != self.trainer.gamma:
            raise ConfigError(f"env.gamma must be trainer.gamma = {self.trainer.gamma}; got {self.env.gamma}")
        if self.cloning.strays and not self.env.undo:
            raise ConfigError(f"cloning.strays must be 0 without env.undo; got {self.cloning.strays}")


OLD_KEYS = OldKeys(
    renamed={"env.program_checkpoint": "program_checkpoint", "env.dataset_path": "tasks.manifest"},
    needless={
        "env.jepa_config_path": "a program-conditioned JEPA's checkpoint holds its config",
        "env.max_actions": "the program-conditioned JEPA's checkpoint says which actions there are",
    },
)
