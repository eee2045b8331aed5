"""Chooses devices by name, and counts parameters."""

from contextlib import AbstractContextManager, nullcontext

import torch

from arc_core.errors import InputError
from arc_core.settings import Precision


def require_device(name: str) -> None:
    """Raises InputError unless torch has the device; "cpu" and "auto" are always accepted."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(name, True):
        raise InputError(f"device {name} was asked for and torch sees none; use --device cpu or auto")


def solving_device(name: str) -> torch.device:
    """Returns the device to solve on; "auto" is a CUDA GPU if there is one, else the CPU.

    Raises:
        InputError: torch does not have the device.
    """
    require_device(name)
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def solving_autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Returns the context in which to solve: on CUDA the autocast that the model was trained and validated under.

    Args:
        device: where the model is; elsewhere than on CUDA it computes in float32.
        precision: of the checkpoint's config.
    """
    if device.type != "cuda" or precision == "float32":
        return nullcontext()
    return torch.autocast("cuda", dtype=torch.bfloat16 if precision == "bfloat16" else torch.float16)


def count_parameters(*networks: torch.nn.Module) -> int:
    """Returns the total number of parameters of networks."""
    return sum(weights.numel() for network in networks for weights in network.parameters())
