"""Config of a synthetic data set."""

from dataclasses import dataclass, field
from typing import Annotated

from arc_core.config import Range
from arc_core.errors import ConfigError
from arc_core.grid import MAX_SIDE

Side = Annotated[int, Range(1, MAX_SIDE)]
Count = Annotated[int, Range(1)]


@dataclass(frozen=True)
class PhaseConfig:
    """A phase of the curriculum.

    Attributes:
        count: number of tasks in the phase. The time to generate them grows in proportion. Usual: 60 to 5000.
        primitives: names of the steps of its programs (keys of `dsl.steps.STEPS`); empty for those of `generator`. More
            steps make the phase more varied. Usual: 2 to 40.
    """

    count: Count = 1000
    primitives: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProgramConfig:
    """Lengths of the programs.

    Attributes:
        length_schedule: for each phase, the relative frequency of each number of steps, as in {1: 0.5, 2: 0.5}. Longer
            programs are harder to infer, and fewer of the tasks drawn are accepted. Usual: 1 to 4 steps, up to 6 out of
            distribution.
    """

    length_schedule: dict[str, dict[int, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class GridConfig:
    """Sizes of the input grids; the height and the width are drawn uniformly from the range.

    Attributes:
        min_size: shortest side in cells. Larger grids show a rule more clearly. Usual: 3 to 6; 20 out of distribution.
        max_size: longest side in cells. Raising it makes the search slower, and steps that enlarge a grid are refused
            where the result would pass 30. Usual: 8 to 10; 30 out of distribution.
    """

    min_size: Side = 3
    max_size: Side = 10

    def __post_init__(self) -> None:
        if self.min_size > self.max_size:
            raise ConfigError(f"min_size must be at most max_size {self.max_size}; got {self.min_size}")


@dataclass(frozen=True)
class GeneratorConfig:
    """How tasks are drawn and accepted.

    Attributes:
        allowed_primitives: names of the steps of phases that list none themselves; empty for all steps. More steps make
            tasks more varied. Usual: 14 to 22, or all.
        min_demonstrations: least number of demonstrations of a task. Raising it lets demonstrations determine the rule
            more often, so that more of the tasks drawn are accepted. Usual: 3.
        max_demonstrations: greatest number of demonstrations of a task. Raising it has the same effect, and makes tasks
            take more memory and time. Usual: 3 or 4.
        determined: accept a task only if no shorter program reproduces its demonstrations and differs on the test.
            Without this check the generator is about a hundred times faster, which serves for practice. Usual: true for
            tasks that are evaluated.
    """

    allowed_primitives: tuple[str, ...] = ()
    min_demonstrations: Count = 3
    max_demonstrations: Count = 4
    determined: bool = True


@dataclass(frozen=True)
class SynthesisConfig:
    """A synthetic data set.

    Attributes:
        name: name of the folder below data/ to which the data set is written, if no other folder is given.
        seed: seed of all random draws, 0 or more; another seed gives other tasks of the same kind.
        task_schedule: the phases of the curriculum by name, at least one; see `PhaseConfig`. Usual: 1 to 4 phases.
        program: lengths of the programs.
        grid: sizes of the input grids.
        generator: how tasks are drawn and accepted.
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
