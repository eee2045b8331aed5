"""`train-search-prior`: what guides the search, from synthetic tasks.

Two networks: one reads off a task's demonstrations which primitives it needs, the other off what a program has made of
them so far which step comes next (`train_steps`).
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from joblib import delayed
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from arc_core.errors import InputError
from arc_core.files import show_path
from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from arc_core.task import Task
from jepa_hrl.dsl.program import Expression, names_in, parse
from jepa_hrl.guidance.fit import fit
from jepa_hrl.guidance.primitive_prior import NAMES, PriorNetwork
from jepa_hrl.guidance.step_policy import StepNetwork
from jepa_hrl.guidance.task_features import task_features
from jepa_hrl.guidance.train_steps import drawn_examples, step_metrics, train_steps
from jepa_hrl.synthesis.config import SynthesisConfig
from jepa_hrl.synthesis.dataset import build_plans
from jepa_hrl.workers import run_in_workers

HELD_OUT = 0.1
DATA = "data/prior_curriculum"
_STEP_EPOCHS, _STEP_BATCH = 5, 1024


def wanted_shares(program: Expression) -> Tensor:
    """(primitives,) how often a program uses each, as shares."""
    counts = torch.zeros(len(NAMES))
    for name in names_in(program):
        counts[NAMES.index(name)] += 1
    return counts / counts.sum()


def load_examples(tasks: Sequence[Task], manifest: Path, workers: int) -> tuple[Tensor, Tensor]:
    """(tasks, F) features and (tasks, primitives) wanted shares of the tasks of a manifest.

    Raises:
        InputError: the manifest's tasks do not say their programs.
    """
    with manifest.open(encoding="utf-8") as lines:
        programs = [json.loads(line).get("metadata", {}).get("program") for line in lines if line.strip()]
    if not all(isinstance(program, str) for program in programs):
        raise InputError(f"{show_path(manifest)}: every task must say metadata.program, as generate-dataset writes it")
    jobs = (delayed(task_features)(task) for task in tasks)
    features = list(run_in_workers(jobs, workers, return_as="list", batch_size=64))
    return torch.from_numpy(np.stack(features)), torch.stack([wanted_shares(parse(program)) for program in programs])


def train(features: Tensor, shares: Tensor, steps: int, batch: int, seed: int, progress: Progress) -> PriorNetwork:
    """Learns by the cross-entropy between wanted and predicted shares; batches are functions of (seed, step)."""
    torch.manual_seed(seed_for(seed, "prior", 0))
    network = PriorNetwork(features.shape[1], 256)
    network.mean.copy_(features.mean(dim=0))
    network.scale.copy_(features.std(dim=0).clamp_min(1e-3))

    def loss_of(step: int) -> Tensor:
        rows = torch.from_numpy(generator_for(seed, "prior batches", step).integers(len(features), size=batch))
        return functional.cross_entropy(network(features[rows]), shares[rows])

    fit(network, loss_of, steps, 3e-3, progress)
    return network


@torch.no_grad()
def held_out_metrics(network: PriorNetwork, features: Tensor, shares: Tensor) -> dict[str, float]:
    """Cross-entropy in bits a primitive, and how many of a program's primitives are among the five likeliest."""
    logits = network(features)
    likeliest = logits.topk(5, dim=1).indices
    found = (shares.gather(1, likeliest) > 0).sum(dim=1) / (shares > 0).sum(dim=1).clamp_max(5)
    bits = functional.cross_entropy(logits, shares) / float(np.log(2))
    return {"bits": float(bits), "in_top_5": float(found.mean())}


def train_step_policy(
    practice: SynthesisConfig, workers: int, seed: int, console: Console
) -> tuple[StepNetwork, dict[str, float]]:
    """Trains the policy over steps on random programs.

    Args:
        practice: recipe of the random programs; it has one phase.
        workers: processes that draw them; -1 for one a core.
        seed: of the initial weights and the batches.
    Returns:
        The network, and its figures on programs that it did not learn from.
    """
    ((plan, count),) = build_plans(practice)
    with Progress(console, count, "random programs") as progress:
        examples = drawn_examples(plan, count, practice.seed, workers, progress)
    held = max(1, int(HELD_OUT / 2 * len(examples)))
    learnt = examples.part(slice(held, None))
    steps = max(1, round(_STEP_EPOCHS * len(learnt) / _STEP_BATCH))
    with Progress(console, steps, "training on steps") as progress:
        network = train_steps(learnt, steps, _STEP_BATCH, seed, progress)
    return network, step_metrics(network, examples.part(slice(held)))
