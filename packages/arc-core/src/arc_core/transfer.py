"""Copies between the host and a GPU that let the host go on: one upload of many arrays, and downloads read later."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_ALIGNMENT = 16  # bytes; no element is wider


def upload(arrays: Sequence[npt.NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Copies arrays to a device, to CUDA all of them in one copy that the host does not wait for.

    Args:
        arrays: of any shapes and types that torch has.
        device: on the CPU the tensors share the arrays' memory where these are contiguous.
    Returns:
        A tensor for each array, of its shape and type.
    """
    if device.type != "cuda":
        return [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays]
    starts, end = [], 0
    for array in arrays:
        starts.append(end)
        end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    # Only from page-locked memory can a GPU copy by itself. torch reuses the memory once the copy is done.
    buffer = torch.empty(end, dtype=torch.uint8, pin_memory=True)
    host = buffer.numpy()
    for array, start in zip(arrays, starts, strict=True):
        host[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    packed = buffer.to(device, non_blocking=True)
    return [
        packed[start : start + array.nbytes].view(_torch_type(array)).view(array.shape)
        for array, start in zip(arrays, starts, strict=True)
    ]


def _torch_type(array: npt.NDArray[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype=array.dtype)).dtype


class Download:
    """A tensor on its way to the host. From CUDA the copy runs beside the host, which waits only when it reads it."""

    def __init__(self, tensor: Tensor) -> None:
        """Starts the copy; the tensor may be changed afterwards."""
        self._event: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._host = tensor.cpu()
            return
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no annotation here
        self._event.record()

    def read(self) -> npt.NDArray[Any]:
        """Returns the copy, once it is done."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.numpy()
