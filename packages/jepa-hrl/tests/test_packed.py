"""The packed transformer against PyTorch's own over padded sequences."""

import torch
from torch import Tensor, nn

from jepa_hrl.jepa.augment import TokenBatch
from jepa_hrl.jepa.config import EncoderConfig
from jepa_hrl.jepa.encoder import Encoder
from jepa_hrl.jepa.packed import part_of, transform
from jepa_hrl.objects.tokens import GRID_FIELDS, OBJECT_FIELDS


def test_packed_sequences_come_out_as_padded_ones_and_so_do_gradients() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 3, 24, 0.0, "gelu", batch_first=True, norm_first=True)
    transformer = nn.TransformerEncoder(layer, 2, nn.LayerNorm(12), False).double()
    for weight in transformer.parameters():  # biases begin at 0, the two layers alike
        nn.init.normal_(weight, std=0.3)
    seen = [
        torch.tensor([[True, True, False, True], [True, False, False, False], [True, True, True, True]]),
        torch.ones(5, 3, dtype=torch.bool),
        torch.ones(2, 1, dtype=torch.bool),
    ]
    padded = [torch.randn(*rows.shape, 12, dtype=torch.float64, requires_grad=True) for rows in seen]
    wanted = [transformer(tokens, src_key_padding_mask=~rows)[rows] for tokens, rows in zip(padded, seen, strict=True)]
    packed = [tokens.detach()[rows].requires_grad_() for tokens, rows in zip(padded, seen, strict=True)]
    found = transform(transformer, torch.cat(packed), [part_of(rows) for rows in seen])
    torch.testing.assert_close(found, torch.cat(wanted))

    weights = torch.randn_like(found)
    (torch.cat(wanted) * weights).sum().backward()
    theirs = [weight.grad.clone() for weight in transformer.parameters() if weight.grad is not None]
    transformer.zero_grad()
    (found * weights).sum().backward()
    for weight, other in zip(transformer.parameters(), theirs, strict=True):
        torch.testing.assert_close(weight.grad, other)
    for own, tokens, rows in zip(packed, padded, seen, strict=True):
        assert own.grad is not None
        assert tokens.grad is not None
        torch.testing.assert_close(own.grad, tokens.grad[rows])


def test_a_grids_latent_is_its_own_whatever_it_is_padded_to_and_beside() -> None:
    torch.manual_seed(0)
    config = EncoderConfig(hidden_dim=16, num_layers=2, num_heads=2, latent_dim=8, vq_enabled=False)
    encoder = Encoder(config)
    counts = [3, 0, 5, 3]

    def batch(rows: list[int], most: int) -> TokenBatch:
        objects, present = torch.zeros(len(rows), most, OBJECT_FIELDS), torch.zeros(len(rows), most).bool()
        for place, row in enumerate(rows):
            objects[place, : counts[row]], present[place, : counts[row]] = everything[row][: counts[row]], True
        return TokenBatch(objects, present, grids[rows])

    everything: list[Tensor] = [torch.randn(5, OBJECT_FIELDS) for _ in counts]
    grids = torch.randn(4, GRID_FIELDS)
    alone = [encoder([batch([row], counts[row])]) for row in range(4)]
    together = encoder([batch([2, 0], 7), batch([1], 0), batch([3], 3)])
    torch.testing.assert_close(together.latents, torch.cat([alone[row].latents for row in (2, 0, 1, 3)]))
    torch.testing.assert_close(together.objects, torch.cat([alone[row].objects for row in (2, 0, 1, 3)]))
