"""Sparse sign-SGD of puzzle embeddings."""

import torch

from hrm.model.puzzle_embedding import PuzzleEmbedding, sign_sgd


def test_sign_sgd_equals_a_loop_over_rows_of_the_batch() -> None:
    torch.manual_seed(0)
    embedding = PuzzleEmbedding(6, 3)
    embedding.weights.normal_()
    before = embedding.weights.clone()
    identities, gradients = torch.tensor([4, 1, 4, 5]), torch.randn(4, 3)
    gradients[3] = 0
    sign_sgd(embedding.weights, identities, gradients, 0.1, 0.5)
    for row in range(6):
        total = sum((gradients[i] for i in range(4) if identities[i] == row), torch.zeros(3))
        expected = before[row] * (1 - 0.1 * 0.5) - 0.1 * total.sign() if row in (1, 4, 5) else before[row]
        torch.testing.assert_close(embedding.weights[row], expected)
