"""What the JEPA minimises: the contrastive loss plus weighted others. B pairs, M objects, D channels."""

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.randomness import generator_for
from jepa_hrl.jepa.config import JepaConfig
from jepa_hrl.jepa.data.batches import Batch, changed
from jepa_hrl.jepa.losses.sigreg import draw_slices, epps_pulley, quadrature_rule
from jepa_hrl.jepa.losses.similarity import info_nce, invariance, relational
from jepa_hrl.jepa.model.jepa import Jepa, Predicted


@dataclass(frozen=True)
class Value:
    """Attributes:
    total: what is minimised.
    parts: its parts before weighting, by name.
    right: share of predictions whose own output is the nearest of the batch.
    """

    total: Tensor
    parts: dict[str, Tensor]
    right: Tensor


class Objective:
    """The loss of a config; parts of weight 0 are not computed."""

    def __init__(self, config: JepaConfig, fabric: Fabric) -> None:
        self._config, self._fabric = config, fabric
        rule = quadrature_rule(config.sigreg.num_points, config.sigreg.integration)
        self._rule = tuple(part.to(fabric.device) for part in rule)
        self._changes = {
            "color": config.loss.color_weight, "translation": config.loss.translation_weight,
            "symmetry": config.loss.symmetry_weight,
        }  # fmt: skip
        self._weights = self._changes | {
            "info_nce": 1.0, "sigreg": config.sigreg.weight, "relational": config.loss.relational_weight,
            "commitment": config.object_encoder.vq_commitment if config.object_encoder.vq_enabled else 0.0,
        }  # fmt: skip

    def __call__(
        self, model: Jepa, batch: Batch, predicted: Predicted, keys: Tensor, places: Tensor, micro_step: int
    ) -> Value:
        """The value for a batch.

        Args:
            keys, places: see `info_nce`.
        """
        parts, encoded = {}, predicted.encoded
        parts["info_nce"], right = info_nce(predicted.predictions, keys, places, model.filled_queue, model.temperature)
        seed = self._config.training.seed
        if self._weights["sigreg"]:
            rng = generator_for(seed, "slices", micro_step)
            slices = draw_slices(keys.shape[1], self._config.sigreg.num_slices, rng).to(keys.device)
            # Inputs and outputs apart: an output near its input is no second sample.
            tests = [epps_pulley(latents, slices, *self._rule) for latents in (predicted.inputs, predicted.outputs)]
            parts["sigreg"] = torch.stack(tests).mean()
        if self._weights["relational"]:
            parts["relational"] = relational(encoded.quantized, batch.tokens.objects, batch.tokens.owners)
        if self._weights["commitment"]:
            parts["commitment"] = encoded.commitment
        for name, weight in self._changes.items():
            if weight:
                others = changed(batch, name, generator_for(seed, name, micro_step))
                with self._fabric.autocast():
                    parts[name] = invariance(encoded.latents, model.encoder(others).latents)
        total = torch.stack([self._weights[name] * part.float() for name, part in parts.items()]).sum()
        return Value(total, parts, right)
