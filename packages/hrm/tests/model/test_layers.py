"""Normalisation and rotary positions."""

import math

import pytest
import torch

from arc_core.grid import MAX_SIDE
from hrm.data.tokens import window_positions
from hrm.model.layers import apply_rotary, rms_norm, rotary_table


def test_rms_norm_has_unit_mean_square() -> None:
    x = torch.randn(5, 64)
    torch.testing.assert_close(rms_norm(x, 0.0).square().mean(-1), torch.ones(5))


def test_windows_keep_their_positions_in_the_full_sequence() -> None:
    """Rotary positions on 2-D buckets: a cell's table row is that of its row and column on the 30 x 30 canvas."""
    corner = torch.tensor([[0, 0], [7, 3]])
    positions = window_positions(4, 2, corner)
    for b, (row, column) in enumerate(corner.tolist()):
        expected = [0, 1] + [2 + MAX_SIDE * (row + r) + column + c for r in range(4) for c in range(4)]
        assert positions[b].tolist() == expected
    assert window_positions(30, 2)[0].tolist() == list(range(902))
    table = rotary_table(902, 8, 10000.0)
    heads = torch.randn(1, 18, 1, 8)
    window = apply_rotary(heads, table[:, positions[1]][:, None, :, None])
    for token, position in enumerate(positions[1].tolist()):
        for i in range(4):
            angle = position / 10000 ** (i / 4)
            a, b = heads[0, token, 0, i].item(), heads[0, token, 0, i + 4].item()
            assert window[0, token, 0, i].item() == pytest.approx(a * math.cos(angle) - b * math.sin(angle), abs=1e-4)
            assert window[0, token, 0, i + 4].item() == pytest.approx(
                b * math.cos(angle) + a * math.sin(angle), abs=1e-4
            )
