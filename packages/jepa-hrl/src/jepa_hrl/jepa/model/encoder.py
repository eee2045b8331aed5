"""Tokens to a latent. B grids, N objects, M objects of all grids, H hidden channels, D latent channels."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from jepa_hrl.jepa.config import EncoderConfig
from jepa_hrl.jepa.data.augment import Tokens
from jepa_hrl.jepa.model.packed_attention import rows_of, transform
from jepa_hrl.jepa.model.quantizer import VectorQuantizer
from jepa_hrl.objects.tokens import GRID_FIELDS, OBJECT_FIELDS


class Encoded(NamedTuple):
    """Attributes:
    latents: (B, D) float32.
    objects: (M, H) embeddings of all objects, before quantisation.
    quantized: (M, H) what the latents are made of.
    commitment: of the quantiser, 0 without one.
    """

    latents: Tensor
    objects: Tensor
    quantized: Tensor
    commitment: Tensor


class Standardize(nn.Module):
    """Fields to mean 0 and variance 1 over the training data; fields that never change become 0."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(fields))
        self.register_buffer("scale", torch.ones(fields))

    def fit(self, values: Tensor) -> None:
        """Takes mean and deviation from (n, fields) values."""
        self.mean.copy_(values.float().mean(dim=0))
        deviation = values.float().std(dim=0, correction=0)
        self.scale.copy_(torch.where(deviation > 0, 1 / deviation.clamp_min(0.02), 0.0))

    def forward(self, values: Tensor) -> Tensor:
        """(..., fields)."""
        return (values - self.mean) * self.scale


class Encoder(nn.Module):
    """A transformer over a grid's own token and its objects', codes for the objects, and a pooled latent."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.hidden_dim
        self.embed_object = nn.Sequential(Standardize(OBJECT_FIELDS), nn.Linear(OBJECT_FIELDS, width))
        self.embed_grid = nn.Sequential(Standardize(GRID_FIELDS), nn.Linear(GRID_FIELDS, width))
        layer = nn.TransformerEncoderLayer(
            width, config.num_heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, config.num_layers, nn.LayerNorm(width), False)
        self.quantizer = VectorQuantizer(config.num_embeddings, width) if config.vq_enabled else None
        self.pool = nn.Sequential(
            nn.LayerNorm(3 * width), nn.Linear(3 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, config.latent_dim)
        )

    def fit_inputs(self, objects: Tensor, grids: Tensor) -> None:
        """Takes the scales of the token fields from all tokens of the training data."""
        for embed, values in ((self.embed_object, objects), (self.embed_grid, grids)):
            standardize = embed[0]
            assert isinstance(standardize, Standardize)
            standardize.fit(values)

    def forward(self, tokens: Tokens) -> Encoded:
        """Encodes grids."""
        counts = torch.bincount(tokens.owners, minlength=len(tokens.grids))
        before = counts.cumsum(0) - counts
        owns = torch.arange(len(counts), device=counts.device) + before
        others = torch.arange(len(tokens.owners), device=counts.device) + tokens.owners + 1
        grids, objects = self.embed_grid(tokens.grids), self.embed_object(tokens.objects)
        embedded = grids.new_empty(len(grids) + len(objects), grids.shape[1])
        embedded = embedded.index_copy(0, owns, grids).index_copy(0, others, objects)
        found = transform(self.transformer, embedded, rows_of(counts + 1))
        own, flat = found.index_select(0, owns), found.index_select(0, others).float()
        quantized, commitment = flat, flat.new_zeros(())
        if self.quantizer is not None:
            quantized, _, commitment = self.quantizer(flat)
        total = torch.zeros_like(own, dtype=torch.float32).index_add(0, tokens.owners, quantized)
        # The sum says how many objects there are, the mean what they are like.
        pooled = torch.cat([own.float(), total / counts.clamp_min(1)[:, None], total / 8], dim=1)
        return Encoded(self.pool(pooled).float(), flat, quantized, commitment)
