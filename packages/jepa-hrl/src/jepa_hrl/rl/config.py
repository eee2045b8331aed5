"""Configuration of the active reasoner; recipes are in configs/active-reasoner and configs/active-reasoner-bc."""

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
    """The rewards of an episode.

    Attributes:
        success_distance: cosine distance of every latent to its goal below which the goals count as reached, with
            model dynamics. Higher values reward more episodes that fail on the real grids; usual 0.05 to 0.2.
        success_bonus: reward for reaching the goals. Higher values make the penalties matter less; usually 1.
        step_penalty: subtracted for every action but stopping. Higher values favour short programs and giving up
            early; usual 0 to 0.05.
        simplicity_weight: subtracted for every bit that an action adds to the program's description. Higher values
            favour simple programs; usual 0 to 0.02.
        shaping_weight: of potential-based shaping, which pays for every decrease of the distance to the goals and
            leaves the best policy the same (Ng, Harada and Russell 1999). Higher values give denser rewards; 0 for
            none, usual 0 to 1.
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
        demonstrations: K, pairs of a task that are worked on at once. More of them exclude more wrong programs and
            cost as much more time; usual 2 to 4.
        dynamics: "model" applies each action to the predicted latents, "grounded" encodes the real grids anew after
            each action, as the recipes do.
        max_steps: actions after which an episode is truncated. More of them allow longer programs and more undoing,
            and make episodes longer; usual 8 to 24.
        undo: whether undoing the last action is a choice of its own. It counts as a step.
        gamma: discount of the reward shaping and of options; must equal trainer.gamma.
        reward: see `RewardConfig`.
    """

    demonstrations: Count = 3
    dynamics: Literal["model", "grounded"] = "model"
    max_steps: Count = 8
    undo: bool = False
    gamma: Fraction = 0.95
    reward: RewardConfig = field(default_factory=RewardConfig)


@dataclass(frozen=True)
class TasksConfig:
    """Where the problems come from.

    Attributes:
        curriculum: name of a recipe in configs/data, whose tasks are trained on; generated if missing.
        manifest: manifest of tasks to train on instead of the curriculum's; null for the curriculum's.
        practice: number of problems that are generated in addition, without the search for a shorter program. More of
            them improve generalisation and take time to generate; usual 10000 to 60000.
        practice_curriculum: name of a recipe in configs/data, whose kinds of programs the practice problems have.
        held_out: name of a recipe in configs/data, whose tasks the policy is evaluated on; generated if missing.
        held_out_manifest: manifest of tasks to evaluate on instead of those; null for those.
    """

    curriculum: str = "active_quick"
    manifest: str | None = None
    practice: CountOrZero = 20_000
    practice_curriculum: str = "active_practice"
    held_out: str = "active_held_out"
    held_out_manifest: str | None = None


@dataclass(frozen=True)
class PolicyConfig:
    """The actor-critic network.

    Attributes:
        hidden_dim: channels of its layers. More of them fit more programs and train more slowly; usual 128 to 512.
        foresight: whether the policy is given one-step look-ahead scores: how near the goal the world model predicts
            each action to lead.
        dropout: dropout rate of its layers during imitation. Higher values overfit less and learn more slowly; usual
            0 to 0.2.
    """

    hidden_dim: Count = 256
    foresight: bool = True
    dropout: Fraction = 0.0


@dataclass(frozen=True)
class TrainerConfig:
    """Reinforcement learning.

    Attributes:
        algorithm: "ppo" with generalised advantages, clipped ratios and several passes over each rollout; "reinforce"
            with Monte Carlo returns and a single pass.
        iterations: number of rollouts, each followed by an update. More of them train for longer; usual 10 to 100.
        episodes_per_iter: episodes that are played side by side, over all processes. More of them give less noisy
            gradients and need more memory; usual 32 to 256.
        steps_per_iter: steps of each of them in a rollout; an episode that ends is followed by a new one. More of them
            give less noisy gradients; usual 8 to 64.
        lr: learning rate at the start; it falls linearly to a tenth. Higher values learn faster and less stably; usual
            1e-4 to 1e-3.
        gamma: discount of a later reward. Higher values look farther ahead and make advantages noisier; usual 0.9 to
            0.99.
        gae_lambda: decay of generalised advantage estimation. Higher values trust the critic less, with less bias and
            more variance; usual 0.9 to 0.97.
        epochs: passes over a rollout, for PPO. More of them use the rollout better and move the policy farther from
            it; usual 2 to 10.
        minibatches: parts of each pass. More of them make smaller steps and need less memory; usual 4 to 32.
        clip: range of the probability ratio around 1, and of the values where clip_values is on. Higher values allow
            larger updates; usual 0.1 to 0.3.
        clip_values: whether the value loss is clipped like the ratio. Usually off.
        entropy: weight of the policy's entropy in the first iteration. Higher values explore more; usual 0 to 0.02.
        final_entropy: the same in the last iteration, with a linear change between; usually lower.
        value_weight: weight of the value loss. Higher values fit the critic faster at the expense of the policy; usual
            0.25 to 1.
        max_grad_norm: norm to which gradients are clipped; 0 for no limit. Higher values allow larger steps; usual 0.5
            to 1.
        target_kl: divergence from the policy of the rollout above which an update ends early; 0 for never. Higher
            values allow larger updates; usual 0.01 to 0.05.
        seed: of the weights, tasks, episodes and choices.
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
    """Behavioural cloning: imitation of the programs that problems were made with, before reinforcement learning.

    Attributes:
        epochs: passes over all examples; 0 to start reinforcement learning from scratch. More of them fit the examples
            better and overfit in the end; usual 4 to 20.
        batch_size: examples of an optimiser step. Larger batches give less noisy gradients; usual 256 to 1024.
        lr: peak learning rate. Higher values learn faster and less stably; usual 3e-4 to 3e-3.
        weight_decay: of AdamW. Higher values overfit less; usual 0 to 0.1.
        strays: share of steps at which the demonstrated episode takes another action than the expert's, sampled by the
            look-ahead scores, so that undoing it is demonstrated too. Higher values teach more undoing and less of the
            programs; usual 0 to 0.3. Needs env.undo.
        redraw: share of examples whose demonstrations are drawn from themselves with replacement, anew in every epoch.
            Higher values overfit less; usual 0 to 0.5.
        ema_decay: decay of an exponential average of the weights, which is evaluated and used in place of the last
            weights; null for none. Higher values average over more steps; usual 0.99 to 0.999.
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
    """Evaluation and checkpoints during training.

    Attributes:
        every: iterations, or epochs of imitation, between evaluations on the held-out tasks. Higher values save time;
            usual 1 to 10.
        keep_last: checkpoints to keep beside the best one; usual 1 to 5.
    """

    every: Count = 5
    keep_last: Count = 3


@dataclass(frozen=True)
class ReasonerConfig:
    """The recipe of train-active-reasoner and pretrain-bc.

    Attributes:
        program_checkpoint: run or checkpoint of train-program-conditioned-jepa, the world model; null for the newest
            run, which is trained if missing.
        policy_checkpoint: run or checkpoint of pretrain-bc to start from; null for the newest run with the same world
            model, which is trained if missing.
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
        """Returns the precision of training; the policy is too small for autocast to pay."""
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
