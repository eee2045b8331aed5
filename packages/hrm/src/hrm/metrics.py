"""Accuracy of answers to held-out examples, also of the identity as a baseline."""

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
from hrm.inference import Puzzles, answer_puzzles
from hrm.model.puzzle_embedding import PuzzleEmbedding
from hrm.model.reasoner import Reasoner


@dataclass(frozen=True)
class EvaluationSet:
    """Examples to score a model on.

    Attributes:
        puzzles: their inputs and views.
        embedding_rows: (B,) rows of the puzzle embedding.
        inputs, targets: grids in these views.
    """

    puzzles: Puzzles
    embedding_rows: Ints
    inputs: Sequence[Grid]
    targets: Sequence[Grid]

    @classmethod
    def from_examples(cls, data: TrainingData, examples: Examples) -> "EvaluationSet":
        """Builds the grids of the examples in their views."""
        index = examples.identities
        elements, colors = data.identities.elements[index], data.identities.colors[index]
        pairs = [pair for task in data.tasks for pair in task.train + task.test]
        inputs, targets = [], []
        for pair, element, table in zip(examples.pairs.tolist(), elements.tolist(), colors.tolist(), strict=True):
            view, output = View(element, tuple(table)), pairs[pair].output
            assert output is not None
            inputs.append(view.apply(pairs[pair].input))
            targets.append(view.apply(output))
        puzzles = Puzzles.from_pairs(data.tensors, examples.pairs, elements, colors)
        return cls(puzzles, index + 1, inputs, targets)


def sample_evenly(examples: Examples, max_examples: int) -> Examples:
    """Returns at most so many examples, spread evenly over the tasks."""
    if len(examples) <= max_examples:
        return examples
    order = np.argsort(examples.identities, kind="stable")
    return examples.select(order[np.linspace(0, len(order) - 1, max_examples).astype(np.int64)])


def score_grids(answers: Sequence[Grid], targets: Sequence[Grid]) -> dict[str, float]:
    """Computes the mean accuracies of answers.

    Returns:
        exact_accuracy: share of answers that are wholly right, size included.
        token_accuracy: share of the target's cells that are right; cells that the answer does not reach are wrong.
        size_accuracy: share of answers of the right size.
    """
    pairs = list(zip(answers, targets, strict=True))
    return {
        "exact_accuracy": float(np.mean([is_exact(grid, target) for grid, target in pairs])),
        "token_accuracy": float(np.mean([cell_accuracy(grid, target).pixel for grid, target in pairs])),
        "size_accuracy": float(np.mean([grid.shape == target.shape for grid, target in pairs])),
    }


def score_model(
    model: Reasoner,
    embedding: PuzzleEmbedding | None,
    data: TrainingData,
    evaluation_set: EvaluationSet,
    full_canvas: bool,
) -> dict[str, float]:
    """Scores the model's answers after all segments, each with its identity's embedding.

    Args:
        model: in evaluation mode.
        embedding: the puzzle embedding, None where the model has none.
        data: the tasks.
        evaluation_set: the examples.
        full_canvas: compute on 30 x 30 canvases throughout.
    Returns:
        see `score_grids`.
    """

    def look_up_embeddings(indices: Ints) -> torch.Tensor | None:
        if embedding is None:
            return None
        return embedding.weights[torch.from_numpy(evaluation_set.embedding_rows[indices]).to(embedding.weights.device)]

    answers = answer_puzzles(
        model, data.tensors, evaluation_set.puzzles, look_up_embeddings, stop_early=False, full_canvas=full_canvas
    )
    return score_grids([grid for grid, _ in answers], evaluation_set.targets)
