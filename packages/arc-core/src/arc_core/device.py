"""Devices by name, and the size of what runs on them."""

import torch

from arc_core.errors import InputError


def require_device(name: str) -> None:
    """Raises InputError unless torch sees the device; "cpu" and "auto" are always there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(name, True):
        raise InputError(f"device {name} was asked for and torch sees none; use --device cpu or auto")


def solving_device(name: str) -> torch.device:
    """The device to solve on; "auto" is a CUDA GPU if there is one, else the CPU.

    Raises:
        InputError: it is not there.
    """
    require_device(name)
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def count_parameters(*networks: torch.nn.Module) -> int:
    """Learnt numbers of networks together."""
    return sum(weights.numel() for network in networks for weights in network.parameters())
