"""Settings that the configurations of all trainers share; torch is not needed to read them, nor in worker processes."""

from dataclasses import dataclass
from typing import Literal

Device = Literal["auto", "cpu", "cuda", "mps"]
Schedule = Literal["onecycle", "cosine", "constant"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class DeviceConfig:
    """Where and how to compute; the CPU always computes in float32. The section `device` of every trainer's config."""

    name: Device = "auto"
    mixed_precision: bool = True
    dtype: Precision = "bfloat16"
    compile: bool = False

    @property
    def precision(self) -> Precision:
        """Of autocast."""
        return self.dtype if self.mixed_precision else "float32"
