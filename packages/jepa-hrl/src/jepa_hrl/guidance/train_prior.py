"""Training of the two networks that guide the search, on synthetic tasks.

The prior predicts from a task's demonstrations which primitives it needs. The step policy predicts from what a program
has made of the demonstrations so far which step comes next (`train_steps`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from joblib import delayed
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from arc_core.checkpoint import Checkpoint
from arc_core.datasets import fingerprint
from arc_core.errors import InputError
from arc_core.files import show_path
from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from arc_core.task import Task
from arc_core.workers import run_in_workers
from jepa_hrl.dsl.program import Expression, names_in, parse
from jepa_hrl.guidance.fit import fit
from jepa_hrl.guidance.primitive_prior import METHOD, PRIMITIVE_NAMES, PriorNetwork
from jepa_hrl.guidance.step_policy import StepNetwork
from jepa_hrl.guidance.task_features import task_features
from jepa_hrl.guidance.train_steps import draw_examples, evaluate_step_network, train_step_network
from jepa_hrl.search.moves import STEP_NAMES
from jepa_hrl.synthesis.config import SynthesisConfig
from jepa_hrl.synthesis.dataset import build_plans

_HELD_OUT_SHARE = 0.1
_STEP_EPOCHS, _STEP_BATCH_SIZE = 5, 1024


def primitive_shares(program: Expression) -> Tensor:
    """Returns the (primitives,) share of each primitive among a program's primitives."""
    counts = torch.zeros(len(PRIMITIVE_NAMES))
    for name in names_in(program):
        counts[PRIMITIVE_NAMES.index(name)] += 1
    return counts / counts.sum()


def load_examples(tasks: Sequence[Task], manifest: Path, workers: int) -> tuple[Tensor, Tensor]:
    """Computes features and targets of a manifest's tasks.

    Args:
        tasks: the tasks of the manifest, in its order.
        manifest: file whose lines name the tasks' programs.
        workers: processes; -1 for one for each core.
    Returns:
        (tasks, F) features, and (tasks, primitives) target shares of the primitives.
    Raises:
        InputError: the manifest's tasks do not name their programs.
    """
    with manifest.open(encoding="utf-8") as lines:
        programs = [json.loads(line).get("metadata", {}).get("program") for line in lines if line.strip()]
    if not all(isinstance(program, str) for program in programs):
        raise InputError(f"{show_path(manifest)}: every task must say metadata.program, as generate-dataset writes it")
    jobs = (delayed(task_features)(task) for task in tasks)
    features = list(run_in_workers(jobs, workers, return_as="list", batch_size=64))
    return torch.from_numpy(np.stack(features)), torch.stack([primitive_shares(parse(program)) for program in programs])


def split_examples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Splits indices of examples at random into those to learn from and a tenth to hold out."""
    order = torch.from_numpy(generator_for(seed, "prior split", 0).permutation(count))
    num_held_out = max(1, int(_HELD_OUT_SHARE * count))
    return order[num_held_out:], order[:num_held_out]


def train_prior_network(
    features: Tensor, shares: Tensor, steps: int, batch_size: int, seed: int, progress: Progress
) -> PriorNetwork:
    """Trains a prior by the cross-entropy between target and predicted shares.

    Args:
        features: (N, F) of the tasks.
        shares: (N, primitives) target shares.
        steps: optimiser steps.
        batch_size: tasks in a batch; batches are functions of (seed, step).
        seed: of the initial weights, dropout and batches.
        progress: is told the loss.
    """
    torch.manual_seed(seed_for(seed, "prior", 0))
    network = PriorNetwork(features.shape[1], 256)
    network.mean.copy_(features.mean(dim=0))
    network.scale.copy_(features.std(dim=0).clamp_min(1e-3))

    def batch_loss(step: int) -> Tensor:
        rows = torch.from_numpy(generator_for(seed, "prior batches", step).integers(len(features), size=batch_size))
        return functional.cross_entropy(network(features[rows]), shares[rows])

    fit(network, batch_loss, steps, 3e-3, progress)
    return network


@torch.no_grad()
def evaluate_prior_network(network: PriorNetwork, features: Tensor, shares: Tensor) -> dict[str, float]:
    """Measures a prior on tasks that it did not learn from.

    Args:
        network: the prior.
        features: (N, F) of the tasks.
        shares: (N, primitives) target shares.
    Returns:
        bits: mean cross-entropy of a primitive.
        in_top_5: mean share of a program's primitives (at most five of them) among the five likeliest.
    """
    logits = network(features)
    top_5 = logits.topk(5, dim=1).indices
    recall = (shares.gather(1, top_5) > 0).sum(dim=1) / (shares > 0).sum(dim=1).clamp_max(5)
    bits = functional.cross_entropy(logits, shares) / float(np.log(2))
    return {"bits": float(bits), "in_top_5": float(recall.mean())}


def train_step_policy(
    practice: SynthesisConfig, workers: int, seed: int, console: Console
) -> tuple[StepNetwork, dict[str, float]]:
    """Trains the step policy on random programs.

    Args:
        practice: recipe of the random programs; it has one phase.
        workers: processes that draw them; -1 for one for each core.
        seed: of the initial weights, dropout and batches.
        console: shows the progress.
    Returns:
        The network, and its metrics on programs that it did not learn from.
    """
    ((plan, count),) = build_plans(practice)
    with Progress(console, count, "random programs") as progress:
        examples = draw_examples(plan, count, practice.seed, workers, progress)
    num_held_out = max(1, int(_HELD_OUT_SHARE / 2 * len(examples)))
    training = examples.subset(slice(num_held_out, None))
    steps = max(1, round(_STEP_EPOCHS * len(training) / _STEP_BATCH_SIZE))
    with Progress(console, steps, "training on steps") as progress:
        network = train_step_network(training, steps, _STEP_BATCH_SIZE, seed, progress)
    return network, evaluate_step_network(network, examples.subset(slice(num_held_out)))


def build_checkpoint(
    prior: PriorNetwork, policy: StepNetwork, settings: Mapping[str, object], steps: int, bits: float,
    tasks: Sequence[Task], data: str,
) -> Checkpoint:  # fmt: skip
    """Puts both networks into the checkpoint that `load_prior` and `load_step_network` read.

    Args:
        prior: the trained prior.
        policy: the trained step policy.
        settings: what they were trained with.
        steps: optimiser steps of the prior.
        bits: of the prior on held-out tasks; the checkpoint with the fewest is the best.
        tasks: what the prior learned from.
        data: the data spec of the tasks.
    """
    networks = nn.ModuleDict({"primitives": prior, "steps": policy})
    return Checkpoint(
        METHOD, steps, networks.state_dict(), {}, {}, settings, fingerprint(tasks), (data,),
        extras={"names": list(PRIMITIVE_NAMES), "steps": list(STEP_NAMES)}, best_metric=(-bits,),
    )  # fmt: skip
