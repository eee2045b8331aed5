"""The training objective: the contrastive loss plus weighted other losses. B pairs, M objects, D channels."""

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.randomness import generator_for
from arc_core.transfer import upload
from jepa_hrl.jepa.config import JepaConfig
from jepa_hrl.jepa.data.batches import Batch, augment
from jepa_hrl.jepa.losses.sigreg import draw_slices, epps_pulley, quadrature_rule
from jepa_hrl.jepa.losses.similarity import info_nce, invariance, relational
from jepa_hrl.jepa.model.jepa import Jepa, JepaOutput


@dataclass(frozen=True)
class ObjectiveValue:
    """The objective of a batch.

    Attributes:
        total: scalar, what is minimised.
        terms: its terms before weighting, by name.
        retrieval_top1: share of predictions whose own output is the nearest of the batch.
    """

    total: Tensor
    terms: dict[str, Tensor]
    retrieval_top1: Tensor


class Objective:
    """The weighted losses of a config; terms of weight 0 are not computed."""

    def __init__(self, config: JepaConfig, fabric: Fabric) -> None:
        self._config, self._fabric = config, fabric
        rule = quadrature_rule(config.sigreg.num_points, config.sigreg.integration)
        self._rule = tuple(part.to(fabric.device) for part in rule)
        self._invariance_weights = {
            "color": config.loss.color_weight, "translation": config.loss.translation_weight,
            "symmetry": config.loss.symmetry_weight,
        }  # fmt: skip
        self._weights = self._invariance_weights | {
            "info_nce": 1.0, "sigreg": config.sigreg.weight, "relational": config.loss.relational_weight,
            "commitment": config.object_encoder.vq_commitment if config.object_encoder.vq_enabled else 0.0,
        }  # fmt: skip

    def __call__(
        self, model: Jepa, batch: Batch, predicted: JepaOutput, keys: Tensor, targets: Tensor, micro_step: int
    ) -> ObjectiveValue:
        """Computes the objective of a batch.

        Args:
            model: whose queue and temperature are used, and which encodes the augmented grids.
            batch: this process's share of the pairs.
            predicted: the model's output for the batch.
            keys: (K, D) latents of the outputs of all processes by the target encoder.
            targets: (B,) index among the keys of each pair's own output.
            micro_step: index of the batch, which random draws depend on beside the seed.
        """
        terms, encoded = {}, predicted.encoded
        terms["info_nce"], top1 = info_nce(predicted.predictions, keys, targets, model.filled_queue, model.temperature)
        seed = self._config.training.seed
        if self._weights["sigreg"]:
            rng = generator_for(seed, "slices", micro_step)
            (slices,) = upload([draw_slices(keys.shape[1], self._config.sigreg.num_slices, rng).numpy()], keys.device)
            # Inputs and outputs apart: an output near its input is no second sample.
            samples = (predicted.inputs, predicted.outputs)
            terms["sigreg"] = torch.stack([epps_pulley(sample, slices, *self._rule) for sample in samples]).mean()
        if self._weights["relational"]:
            counts = batch.tokens.sequences.host_counts
            terms["relational"] = relational(encoded.quantized, batch.tokens.objects, counts)
        if self._weights["commitment"]:
            terms["commitment"] = encoded.commitment
        for kind, weight in self._invariance_weights.items():
            if weight:
                augmented = augment(batch, kind, generator_for(seed, kind, micro_step))
                with self._fabric.autocast():
                    terms[kind] = invariance(encoded.latents, model.encoder(augmented).latents)
        total = torch.stack([self._weights[name] * term.float() for name, term in terms.items()]).sum()
        return ObjectiveValue(total, terms, top1)
