"""Config settings that all trainers share; this module does not import torch."""

from dataclasses import dataclass
from typing import Literal

Device = Literal["auto", "cpu", "cuda", "mps"]
Schedule = Literal["onecycle", "cosine", "constant"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class DeviceConfig:
    """The section `device` of a trainer's config; the CPU always computes in float32.

    Attributes:
        name: device to train on; `auto` takes CUDA, else MPS, else the CPU.
        mixed_precision: compute on a GPU under autocast in `dtype`, which is faster and needs less memory than float32.
        dtype: type of autocast; `bfloat16` is the usual choice, `float16` can overflow, `float32` is exact and slow.
        compile: compile the model with torch.compile, which costs a minute or more at the start and speeds up each
            step; worth it for runs of hours on a GPU.
    """

    name: Device = "auto"
    mixed_precision: bool = True
    dtype: Precision = "bfloat16"
    compile: bool = False

    @property
    def precision(self) -> Precision:
        """The precision of autocast: `dtype`, or float32 without mixed precision."""
        return self.dtype if self.mixed_precision else "float32"
