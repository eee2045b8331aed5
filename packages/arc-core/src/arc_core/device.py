"""Whether a device that was asked for is there."""

import torch

from arc_core.errors import InputError


def require_device(name: str) -> None:
    """Raises InputError unless torch sees the device; "cpu" and "auto" are always there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(name, True):
        raise InputError(f"device {name} was asked for and torch sees none; use --device cpu or auto")
