"""Optimisers of the papers, and the learning-rate schedule."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from arc_core.loop import warmup_cosine
from hrm.config import TrainingConfig


class AdamAtan2(torch.optim.Optimizer):
    """Adam with an arctangent in place of the quotient: it needs no epsilon, and the rate bounds every update.

    w <- w (1 - lr decay) - lr atan2(m / (1 - b1^t), sqrt(v / (1 - b2^t))).
    Source: Everett et al. 2024, arXiv:2407.05872, section 4, without its two constants, as the published HRM uses it.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient; no closure is called."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for parameter in parameters:
                if parameter not in self.state:
                    zeros = torch.zeros_like
                    self.state[parameter] = {
                        "step": torch.zeros(()), "mean": zeros(parameter), "square": zeros(parameter)
                    }  # fmt: skip
            states = [self.state[parameter] for parameter in parameters]
            grads = [parameter.grad for parameter in parameters]
            means, squares = [s["mean"] for s in states], [s["square"] for s in states]
            beta1, beta2 = group["betas"]
            for state in states:
                state["step"] += 1
            step = float(states[0]["step"])
            torch._foreach_lerp_(means, grads, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
            # atan2(a, b) = atan2(a c, b c) for c > 0: one factor corrects both biases.
            unbias = math.sqrt(1 - beta2**step) / (1 - beta1**step)
            updates = [
                torch.atan2(mean * unbias, root) for mean, root in zip(means, torch._foreach_sqrt(squares), strict=True)
            ]
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])


def make_optimizers(model: nn.Module, training: TrainingConfig, fused: bool = True) -> list[torch.optim.Optimizer]:
    """Makes one optimiser for all parameters, or with "muon" one for the blocks' matrices and AdamW for the rest.

    Args:
        model: whose parameters are optimised.
        training: names the optimiser and has its settings.
        fused: whether AdamW updates all parameters in one kernel; see `arc_core.loop.can_fuse`.
    """
    rate, decay = training.learning_rate, training.weight_decay
    betas = (training.beta1, training.beta2)
    if training.optimizer == "adam_atan2":
        return [AdamAtan2(model.parameters(), rate, betas, decay)]
    if training.optimizer == "adamw":
        return [torch.optim.AdamW(model.parameters(), rate, betas, weight_decay=decay, fused=fused)]
    matrices = [p for name, p in model.named_parameters() if "_level." in name and p.ndim == 2]
    matrix_ids = {id(parameter) for parameter in matrices}
    rest = [p for p in model.parameters() if id(p) not in matrix_ids]
    # Updates of AdamW's size, so that one rate serves both. Source: Liu et al. 2025, arXiv:2502.16982, section 2.2.
    muon = torch.optim.Muon(matrices, rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, rate, betas, weight_decay=decay, fused=fused)]


def learning_rate_factor(training: TrainingConfig, step: int) -> float:
    """Returns the rate of optimiser step `step` (from 0) over its maximum: linear warm-up, then cosine or constant."""
    if training.scheduler == "constant" and step >= training.warmup_steps:
        return 1.0
    return warmup_cosine(step, training.warmup_steps, training.max_steps, training.lr_min_ratio)
