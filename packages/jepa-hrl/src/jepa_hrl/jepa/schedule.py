"""The learning rate over a run."""

import math

_LAST_RATE = 0.1  # of the highest, at the end of the cosine


def rate_factor(step: int, warmup: int, total: int) -> float:
    """The learning rate of optimiser step `step` (0 for the first) as a share of the highest."""
    warmup = min(warmup, total // 2)  # a short run must reach its rate
    if step < warmup:
        return (step + 1) / warmup
    through = (step - warmup) / max(total - warmup, 1)
    return _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * through))
