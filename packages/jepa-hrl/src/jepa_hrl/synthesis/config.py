"""What a synthetic data set is made from."""

from dataclasses import dataclass, field
from typing import Annotated

from arc_core.config import Range
from arc_core.errors import ConfigError
from arc_core.grid import MAX_SIDE

Side = Annotated[int, Range(1, MAX_SIDE)]
Count = Annotated[int, Range(1)]


@dataclass(frozen=True)
class PhaseConfig:
    """A part of the curriculum.

    Attributes:
        count: tasks.
        primitives: steps that its programs are made of; none for those of `generator`.
    """

    count: Count = 1000
    primitives: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProgramConfig:
    """How long programs are.

    Attributes:
        length_schedule: for each phase the share of each number of steps.
    """

    length_schedule: dict[str, dict[int, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class GridConfig:
    """Sides of the input grids."""

    min_size: Side = 3
    max_size: Side = 10

    def __post_init__(self) -> None:
        if self.min_size > self.max_size:
            raise ConfigError(f"min_size must be at most max_size {self.max_size}; got {self.min_size}")


@dataclass(frozen=True)
class GeneratorConfig:
    """Attributes:
    allowed_primitives: steps for phases that name none; all of them if there are none here either.
    min_demonstrations, max_demonstrations: of a task.
    determined: accept a task only if no shorter program tells another story about its demonstrations; not to look
        takes a hundredth of the time.
    """

    allowed_primitives: tuple[str, ...] = ()
    min_demonstrations: Count = 3
    max_demonstrations: Count = 4
    determined: bool = True


@dataclass(frozen=True)
class SynthesisConfig:
    """A synthetic data set.

    Attributes:
        name: of the folder that it is written to, below data/.
        seed: of everything drawn.
    """

    name: str = "synthetic"
    seed: Annotated[int, Range(0)] = 0
    task_schedule: dict[str, PhaseConfig] = field(default_factory=dict)
    program: ProgramConfig = field(default_factory=ProgramConfig)
    grid: GridConfig = field(default_factory=GridConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)

    def __post_init__(self) -> None:
        if not self.task_schedule:
            raise ConfigError("task_schedule must name at least one phase, such as phase_i: {count: 100}")
        for phase in self.task_schedule:
            shares = self.program.length_schedule.get(phase)
            if not shares or min(shares) < 1 or min(shares.values()) < 0 or sum(shares.values()) <= 0:
                raise ConfigError(
                    f"program.length_schedule.{phase} must give shares of lengths, such as {{1: 0.5, 2: 0.5}}; "
                    f"got {shares}"
                )
        if self.generator.min_demonstrations > self.generator.max_demonstrations:
            raise ConfigError("generator.min_demonstrations must be at most max_demonstrations")
