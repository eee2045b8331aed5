"""How good answers to held-out examples are, beside those of the identity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from arc_core.augment import View
from arc_core.extents import Ints
from arc_core.grid import Grid
from arc_core.scoring import cell_accuracy, is_exact
from hrm.data.identities import Examples
from hrm.data.training_data import TrainingData
from hrm.inference import Puzzles, answer
from hrm.model.puzzle_embedding import PuzzleEmbedding
from hrm.model.reasoner import Reasoner


@dataclass(frozen=True)
class Scored:
    """Examples to score.

    Attributes:
        puzzles: their inputs and views.
        identities: (B,) rows of the embedding.
        inputs, targets: grids in these views.
    """

    puzzles: Puzzles
    identities: Ints
    inputs: Sequence[Grid]
    targets: Sequence[Grid]

    @classmethod
    def of(cls, data: TrainingData, examples: Examples) -> "Scored":
        """The examples with their answers."""
        number = examples.identities
        elements, colors = data.identities.elements[number], data.identities.colors[number]
        pairs = [pair for task in data.tasks for pair in task.train + task.test]
        inputs, targets = [], []
        for pair, element, table in zip(examples.pairs.tolist(), elements.tolist(), colors.tolist(), strict=True):
            view, output = View(element, tuple(table)), pairs[pair].output
            assert output is not None
            inputs.append(view.apply(pairs[pair].input))
            targets.append(view.apply(output))
        return cls(Puzzles.of(data.tensors, examples.pairs, elements, colors), number + 1, inputs, targets)


def sample(examples: Examples, most: int) -> Examples:
    """At most so many examples, evenly spread over the tasks."""
    if len(examples) <= most:
        return examples
    order = np.argsort(examples.identities, kind="stable")
    return examples.rows(order[np.linspace(0, len(order) - 1, most).astype(np.int64)])


def grid_metrics(answers: Sequence[Grid], targets: Sequence[Grid]) -> dict[str, float]:
    """exact_accuracy: whole grids, size included. token_accuracy: cells of the target; size_accuracy: sizes."""
    pairs = list(zip(answers, targets, strict=True))
    return {
        "exact_accuracy": float(np.mean([is_exact(grid, target) for grid, target in pairs])),
        "token_accuracy": float(np.mean([cell_accuracy(grid, target).pixel for grid, target in pairs])),
        "size_accuracy": float(np.mean([grid.shape == target.shape for grid, target in pairs])),
    }


def model_metrics(
    model: Reasoner, embedding: PuzzleEmbedding | None, data: TrainingData, scored: Scored, full: bool
) -> dict[str, float]:
    """`grid_metrics` of the model's answers after all segments, each with its identity's embedding."""

    def lookup(numbers: Ints) -> torch.Tensor | None:
        if embedding is None:
            return None
        return embedding.weights[torch.from_numpy(scored.identities[numbers]).to(embedding.weights.device)]

    found = answer(model, data.tensors, scored.puzzles, lookup, stop_early=False, full=full)
    return grid_metrics([grid for grid, _ in found], scored.targets)
