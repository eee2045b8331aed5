"""The packed transformer against PyTorch's own over padded sequences."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jepa_hrl.jepa.config import EncoderConfig
from jepa_hrl.jepa.data.augment import Tokens
from jepa_hrl.jepa.model.encoder import Encoder
from jepa_hrl.jepa.model.packed_attention import (
    Integers,
    PackedRows,
    make_sequences,
    plan_rows,
    plan_sequences,
    transform,
)
from jepa_hrl.objects.tokens import GRID_FIELDS, OBJECT_FIELDS


def rows_of(lengths: Integers) -> PackedRows:
    return PackedRows(*map(torch.from_numpy, plan_rows(lengths)))


def test_packed_sequences_come_out_as_padded_ones_and_so_do_gradients() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 3, 24, 0.0, "gelu", batch_first=True, norm_first=True)
    transformer = nn.TransformerEncoder(layer, 2, nn.LayerNorm(12), False).double()
    for weight in transformer.parameters():  # biases begin at 0, the two layers alike
        nn.init.normal_(weight, std=0.3)
    lengths = torch.tensor([3, 1, 40, 20, 33, 1, 7])
    seen = torch.arange(40) < lengths[:, None]
    padded = torch.randn(*seen.shape, 12, dtype=torch.float64, requires_grad=True)
    wanted = transformer(padded, src_key_padding_mask=~seen)[seen]
    packed = padded.detach()[seen].requires_grad_()
    found = transform(transformer, packed, rows_of(lengths.numpy()))
    torch.testing.assert_close(found, wanted)

    weights = torch.randn_like(found)
    (wanted * weights).sum().backward()
    theirs = [weight.grad.clone() for weight in transformer.parameters() if weight.grad is not None]
    transformer.zero_grad()
    (found * weights).sum().backward()
    for weight, other in zip(transformer.parameters(), theirs, strict=True):
        torch.testing.assert_close(weight.grad, other)
    assert padded.grad is not None
    torch.testing.assert_close(packed.grad, padded.grad[seen])


@pytest.mark.parametrize(
    "lengths", [[], [0], [0, 0, 5], [64], [63, 1, 1], [64, 64, 0, 2], [200, 3, 130, 90], [1] * 200]
)
def test_every_sequence_lies_whole_in_one_row_and_alone_in_its_places(lengths: list[int]) -> None:
    rows = rows_of(np.array(lengths, dtype=np.int64))
    assert len(rows.positions) == sum(lengths) == len(set(rows.positions.tolist()))
    owners = [number for number, length in enumerate(lengths) for _ in range(length)]
    assert rows.sequences.flatten()[rows.positions].tolist() == owners
    assert int((rows.sequences >= 0).sum()) == sum(lengths)
    for number, length in enumerate(lengths):
        there = torch.nonzero(rows.sequences == number)
        assert len(there) == length and len(set(there[:, 0].tolist())) <= 1
        assert not length or int(there[-1, 1] - there[0, 1]) == length - 1
    tokens = torch.randn(sum(lengths), 3)
    assert torch.equal(rows.pack(rows.unpack(tokens)), tokens)


def test_a_grids_latent_is_its_own_whatever_it_lies_beside() -> None:
    torch.manual_seed(0)
    config = EncoderConfig(hidden_dim=16, num_layers=2, num_heads=2, latent_dim=8, vq_enabled=False)
    encoder = Encoder(config)
    counts = [3, 0, 5, 3]

    def batch(*rows: int) -> Tokens:
        own = np.array([counts[row] for row in rows])
        owners = torch.arange(len(rows)).repeat_interleave(torch.from_numpy(own))
        sequences = make_sequences(own, list(map(torch.from_numpy, plan_sequences(own))))
        return Tokens(torch.cat([everything[row] for row in rows]), owners, grids[list(rows)], sequences)

    everything: list[Tensor] = [torch.randn(count, OBJECT_FIELDS) for count in counts]
    grids = torch.randn(4, GRID_FIELDS)
    alone = [encoder(batch(row)) for row in range(4)]
    together = encoder(batch(2, 0, 1, 3))
    torch.testing.assert_close(together.latents, torch.cat([alone[row].latents for row in (2, 0, 1, 3)]))
    torch.testing.assert_close(together.objects, torch.cat([alone[row].objects for row in (2, 0, 1, 3)]))
