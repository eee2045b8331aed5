"""The encoder from tokens to a latent. B grids, M objects of all grids, H hidden channels, D latent channels."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from jepa_hrl.jepa.config import EncoderConfig
from jepa_hrl.jepa.data.augment import Tokens
from jepa_hrl.jepa.model.packed_attention import transform
from jepa_hrl.jepa.model.quantizer import VectorQuantizer
from jepa_hrl.objects.tokens import GRID_FIELDS, OBJECT_FIELDS


class EncoderOutput(NamedTuple):
    """Latents of grids, and what they are made of.

    Attributes:
        latents: (B, D) float32.
        objects: (M, H) embeddings of all objects, before quantisation.
        quantized: (M, H) what is pooled into the latents: codes, or the embeddings themselves without a quantiser.
        commitment: scalar commitment loss of the quantiser, 0 without one.
    """

    latents: Tensor
    objects: Tensor
    quantized: Tensor
    commitment: Tensor


class Standardize(nn.Module):
    """Scales fields to mean 0 and variance 1 over the training data; fields that never vary become 0."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(fields))
        self.register_buffer("scale", torch.ones(fields))

    def fit(self, values: Tensor) -> None:
        """Estimates mean and standard deviation from (n, fields) values."""
        self.mean.copy_(values.float().mean(dim=0))
        deviation = values.float().std(dim=0, correction=0)
        self.scale.copy_(torch.where(deviation > 0, 1 / deviation.clamp_min(0.02), 0.0))

    def forward(self, values: Tensor) -> Tensor:
        """Standardises (..., fields) values."""
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
        """Fits the standardisation of token fields to all (N, OBJECT_FIELDS) and (G, GRID_FIELDS) training tokens."""
        for embed, values in ((self.embed_object, objects), (self.embed_grid, grids)):
            standardize = embed[0]
            assert isinstance(standardize, Standardize)
            standardize.fit(values)

    def forward(self, tokens: Tokens) -> EncoderOutput:
        """Encodes the grids that some tokens are of."""
        _, counts, grid_positions, object_positions, rows = tokens.sequences
        grids, objects = self.embed_grid(tokens.grids), self.embed_object(tokens.objects)
        sequences = grids.new_empty(len(grids) + len(objects), grids.shape[1])
        sequences = sequences.index_copy(0, grid_positions, grids).index_copy(0, object_positions, objects)
        hidden = transform(self.transformer, sequences, rows)
        grid_hidden = hidden.index_select(0, grid_positions)
        embeddings = hidden.index_select(0, object_positions).float()
        quantized, commitment = embeddings, embeddings.new_zeros(())
        if self.quantizer is not None:
            quantized, _, commitment = self.quantizer(embeddings)
        total = torch.zeros_like(grid_hidden, dtype=torch.float32).index_add(0, tokens.owners, quantized)
        # The sum says how many objects there are, the mean what they are like.
        pooled = torch.cat([grid_hidden.float(), total / counts.clamp_min(1)[:, None], total / 8], dim=1)
        return EncoderOutput(self.pool(pooled).float(), embeddings, quantized, commitment)
