"""Training the step policy on random programs and what each of their steps makes of the demonstrations.

A program of L steps gives L values on a path to its outputs, each labelled with the step that comes next, and about as
many values off the path, each made by a random step. N examples, F features.
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
from arc_core.workers import run_in_workers
from jepa_hrl.dsl.program import INPUT, evaluate
from jepa_hrl.dsl.steps import STEPS
from jepa_hrl.dsl.types import Array
from jepa_hrl.guidance.fit import fit
from jepa_hrl.guidance.step_features import TargetFeatures
from jepa_hrl.guidance.step_policy import MAX_DEMONSTRATIONS, StepNetwork
from jepa_hrl.search.moves import STEP_NAMES, make_move
from jepa_hrl.synthesis.generator import PhasePlan, make_practice_task

_TASKS_PER_JOB = 100
_MAX_DETOUR_TRIES = 5  # random steps that are tried for a value off the path
_HIDDEN = 512
_ON_PATH_WEIGHT = 0.5  # of the second loss
_MIN_SCALE = 0.02


@dataclass(frozen=True)
class StepExamples:
    """Values and the step that comes next.

    Attributes:
        features: (N, F) float16.
        next_steps: (N,) int64 indices into STEP_NAMES; -1 for values off the path.
    """

    features: Tensor
    next_steps: Tensor

    def __len__(self) -> int:
        return len(self.next_steps)

    def subset(self, rows: slice) -> "StepExamples":
        """Returns the examples of some rows."""
        return StepExamples(self.features[rows], self.next_steps[rows])


def draw_examples(plan: PhasePlan, tasks: int, seed: int, workers: int, progress: Progress) -> StepExamples:
    """Draws random programs and turns their values into examples.

    The examples depend on the plan and the seed alone, not on the number of workers.

    Args:
        plan: recipe of the programs; steps that are no moves of the search are left out.
        tasks: number of programs.
        seed: of the programs and of the values off their paths.
        workers: processes; -1 for one for each core.
        progress: is told how many programs are done.
    """
    plan = replace(plan, steps=tuple(step for step in plan.steps if step.name in STEP_NAMES), determined=False)
    parts = [range(first, min(first + _TASKS_PER_JOB, tasks)) for first in range(0, tasks, _TASKS_PER_JOB)]
    jobs = (delayed(_part_examples)(plan, indices, seed) for indices in parts)
    results = []
    for indices, arrays in zip(parts, run_in_workers(jobs, workers, pre_dispatch="2 * n_jobs"), strict=True):
        results.append(arrays)
        progress.update(indices[-1] + 1)
    features, next_steps = (np.concatenate(arrays) for arrays in zip(*results, strict=True))
    return StepExamples(torch.from_numpy(features), torch.from_numpy(next_steps))


def _part_examples(plan: PhasePlan, indices: range, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features and next steps of the programs with some indices."""
    features, next_steps = [], []
    for index in indices:
        practice = make_practice_task(plan, index, seed)
        rng = generator_for(seed, f"off the way of {plan.name}", index)
        pairs = practice.task.train[:MAX_DEMONSTRATIONS]
        value: list[Array] = [pair.input for pair in pairs]
        values: list[list[Array]] = []
        for step, arguments in practice.trace:
            program = step.apply(INPUT, arguments)
            after: list[Array] = [evaluate(program, grid) for grid in value]  # type: ignore[misc]
            values.append(value)
            next_steps.append(STEP_NAMES.index(step.name))
            detour = _take_detour(value, after, rng)
            if detour is not None:
                values.append(detour)
                next_steps.append(-1)
            value = after
        target = TargetFeatures([pair.output for pair in pairs if pair.output is not None])
        features.append(target.features(values).astype(np.float16))
    return np.concatenate(features), np.array(next_steps)


def _take_detour(value: Sequence[Array], after: Sequence[Array], rng: np.random.Generator) -> list[Array] | None:
    """Applies a random step that changes a value and does not lead to the value after it; None if none is drawn."""
    for _ in range(_MAX_DETOUR_TRIES):
        name = STEP_NAMES[int(rng.integers(len(STEP_NAMES)))]
        move = make_move(name, int(rng.integers(1, 10)) if STEPS[name].takes_color else None)
        grids = [grid for grid in map(move.apply, value) if isinstance(grid, np.ndarray)]
        changed = len(grids) == len(value) and not any(map(np.array_equal, grids, value))
        if changed and not all(map(np.array_equal, grids, after)):
            return grids
    return None


def train_step_network(
    examples: StepExamples, steps: int, batch_size: int, seed: int, progress: Progress
) -> StepNetwork:
    """Trains a network by the cross-entropies of the next step and of lying on a path.

    Args:
        examples: what it learns from.
        steps: optimiser steps.
        batch_size: examples in a batch; batches are functions of (seed, step).
        seed: of the initial weights, dropout and batches.
        progress: is told the loss.
    """
    torch.manual_seed(seed_for(seed, "steps", 0))
    sample = examples.features[:: max(1, len(examples) // 50_000)].float()
    network = StepNetwork(sample.shape[1], _HIDDEN)
    network.mean.copy_(sample.mean(dim=0))
    network.scale.copy_(sample.std(dim=0).clamp_min(_MIN_SCALE))

    def batch_loss(step: int) -> Tensor:
        rows = torch.from_numpy(generator_for(seed, "step batches", step).integers(len(examples), size=batch_size))
        next_steps = examples.next_steps[rows]
        logits, on_path_logits = network(examples.features[rows].float())
        on_path = next_steps >= 0
        loss = functional.cross_entropy(logits[on_path], next_steps[on_path])
        return loss + _ON_PATH_WEIGHT * functional.binary_cross_entropy_with_logits(on_path_logits, on_path.float())

    fit(network, batch_loss, steps, 2e-3, progress)
    return network


@torch.no_grad()
def evaluate_step_network(network: StepNetwork, examples: StepExamples) -> dict[str, float]:
    """Measures a network on examples.

    Returns:
        bits: mean cross-entropy of the next step.
        in_top_5: share of values on a path whose next step is among the five likeliest.
        on_path_accuracy: share of values whose lying on or off the path is predicted correctly.
    """
    logits, on_path_logits = network(examples.features.float())
    on_path = examples.next_steps >= 0
    targets = examples.next_steps[on_path]
    bits = functional.cross_entropy(logits[on_path], targets) / float(np.log(2))
    top_5 = logits[on_path].topk(5, dim=1).indices
    return {
        "bits": float(bits), "in_top_5": float((top_5 == targets[:, None]).any(dim=1).float().mean()),
        "on_path_accuracy": float(((on_path_logits > 0) == on_path).float().mean()),
    }  # fmt: skip
