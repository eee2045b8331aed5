"""What the policy of steps learns from: random programs, and what each of their steps has made of the demonstrations.

A task of L steps gives L values that lie on a way to its outputs, each with the step that comes next, and about as many
that a random step leads off it. N examples, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from joblib import delayed
from torch import Tensor
from torch.nn import functional

from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from jepa_hrl.dsl.program import INPUT, evaluate
from jepa_hrl.dsl.steps import STEPS
from jepa_hrl.dsl.types import Array
from jepa_hrl.guidance.fit import fit
from jepa_hrl.guidance.step_features import Wanted
from jepa_hrl.guidance.step_policy import DEMONSTRATIONS, StepNetwork
from jepa_hrl.search.moves import STEP_NAMES, make_move
from jepa_hrl.synthesis.generator import PhasePlan, make_practice_task
from jepa_hrl.workers import run_in_workers

_TASKS_A_JOB = 100
_TRIES = 5  # of random steps that may lead off the way
_HIDDEN = 512
_ON_WAY_WEIGHT = 0.5  # of the second loss
_LEAST_SCALE = 0.02


@dataclass(frozen=True)
class Examples:
    """Values and what comes next.

    Attributes:
        features: (N, F) float16.
        steps: (N,) int64 places in STEP_NAMES; -1 for values that lie on no way.
        left: (N,) int64 steps to the outputs; -1 likewise.
    """

    features: Tensor
    steps: Tensor
    left: Tensor

    def __len__(self) -> int:
        return len(self.steps)

    def part(self, rows: slice) -> "Examples":
        """Some of them."""
        return Examples(self.features[rows], self.steps[rows], self.left[rows])


def drawn_examples(plan: PhasePlan, tasks: int, seed: int, workers: int, progress: Progress) -> Examples:
    """Those of a number of random tasks; the same for the same seed, whatever the number of workers."""
    plan = replace(plan, steps=tuple(step for step in plan.steps if step.name in STEP_NAMES), determined=False)
    parts = [range(first, min(first + _TASKS_A_JOB, tasks)) for first in range(0, tasks, _TASKS_A_JOB)]
    jobs = (delayed(_examples)(plan, numbers, seed) for numbers in parts)
    made = []
    for numbers, found in zip(parts, run_in_workers(jobs, workers, pre_dispatch="2 * n_jobs"), strict=True):
        made.append(found)
        progress.update(numbers[-1] + 1)
    features, steps, left = (np.concatenate(arrays) for arrays in zip(*made, strict=True))
    return Examples(torch.from_numpy(features), torch.from_numpy(steps), torch.from_numpy(left))


def _examples(plan: PhasePlan, numbers: range, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    features, steps, left = [], [], []
    for number in numbers:
        made = make_practice_task(plan, number, seed)
        rng = generator_for(seed, f"off the way of {plan.name}", number)
        pairs = made.task.train[:DEMONSTRATIONS]
        value: list[Array] = [pair.input for pair in pairs]
        values: list[list[Array]] = []
        for place, (step, arguments) in enumerate(made.trace):
            program = step.apply(INPUT, arguments)
            after: list[Array] = [evaluate(program, grid) for grid in value]  # type: ignore[misc]
            values.append(value)
            steps.append(STEP_NAMES.index(step.name))
            left.append(len(made.trace) - place)
            astray = _astray(value, after, rng)
            if astray is not None:
                values.append(astray)
                steps.append(-1)
                left.append(-1)
            value = after
        wanted = Wanted([pair.output for pair in pairs if pair.output is not None])
        features.append(wanted.features(values).astype(np.float16))
    return np.concatenate(features), np.array(steps), np.array(left)


def _astray(value: Sequence[Array], after: Sequence[Array], rng: np.random.Generator) -> list[Array] | None:
    """What a random step makes of a value, if it changes it and is not what comes after it."""
    for _ in range(_TRIES):
        name = STEP_NAMES[int(rng.integers(len(STEP_NAMES)))]
        move = make_move(name, int(rng.integers(1, 10)) if STEPS[name].takes_color else None)
        found = [grid for grid in map(move.apply, value) if isinstance(grid, np.ndarray)]
        changed = len(found) == len(value) and not any(map(np.array_equal, found, value))
        if changed and not all(map(np.array_equal, found, after)):
            return found
    return None


def train_steps(examples: Examples, steps: int, batch: int, seed: int, progress: Progress) -> StepNetwork:
    """Learns by the cross-entropy of the next step and of lying on a way; batches are functions of (seed, step)."""
    torch.manual_seed(seed_for(seed, "steps", 0))
    sample = examples.features[:: max(1, len(examples) // 50_000)].float()
    network = StepNetwork(sample.shape[1], _HIDDEN)
    network.mean.copy_(sample.mean(dim=0))
    network.scale.copy_(sample.std(dim=0).clamp_min(_LEAST_SCALE))

    def loss_of(step: int) -> Tensor:
        rows = torch.from_numpy(generator_for(seed, "step batches", step).integers(len(examples), size=batch))
        next_step = examples.steps[rows]
        logits, on_way = network(examples.features[rows].float())
        known = next_step >= 0
        loss = functional.cross_entropy(logits[known], next_step[known])
        return loss + _ON_WAY_WEIGHT * functional.binary_cross_entropy_with_logits(on_way, known.float())

    fit(network, loss_of, steps, 2e-3, progress)
    return network


@torch.no_grad()
def step_metrics(network: StepNetwork, examples: Examples) -> dict[str, float]:
    """Bits that the next step costs, how often it is among the five likeliest, and how many values are told rightly."""
    logits, on_way = network(examples.features.float())
    known = examples.steps >= 0
    wanted = examples.steps[known]
    bits = functional.cross_entropy(logits[known], wanted) / float(np.log(2))
    likeliest = logits[known].topk(5, dim=1).indices
    return {
        "bits": float(bits), "in_top_5": float((likeliest == wanted[:, None]).any(dim=1).float().mean()),
        "on_way": float(((on_way > 0) == known).float().mean()),
    }  # fmt: skip
