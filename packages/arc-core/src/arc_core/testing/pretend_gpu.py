"""A GPU that is not there: real numbers, autograd and optimisers on tensors that say they are on cuda:0.

Code that is made for CUDA runs on it as it is, on any machine: `torch.cuda.is_available()` is true, Fabric opens the
accelerator "cuda", and what CUDA would refuse is refused, such as an operation on tensors of two devices. Waits of the
host, copies and kernels are recorded (`arc_core.testing.activity`).

    with pretend_gpu(), record_activity() as activity:
        model.to("cuda")(batch.to("cuda")).sum().item()
    assert activity.waits.total() == 1

Limits: autocast follows the CPU's list of operations; there is one device without NCCL, kernels or limited memory;
worker processes have no pretended GPU. Modules that use `torch.inference_mode` are to be imported inside the block.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from arc_core.testing.activity import count_kernel, count_upload
from arc_core.testing.patches import patched_torch
from arc_core.testing.pretend_tensor import CUDA, PretendTensor, is_pinned, move, pin, require_cuda_generator

_WITHOUT_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty"}
_FROM_HOST_VALUES = {"tensor", "as_tensor", "asarray"}


@contextmanager
def pretend_gpu() -> Iterator[None]:
    """Pretends inside the block that this machine has one CUDA device."""
    with patched_torch(), _DeviceCalls():
        yield


class _DeviceCalls(TorchFunctionMode):
    """Answers the calls of torch that name a device, before torch looks for that device's driver."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func is torch.Tensor.cpu:
            return move(args[0], to_device=False)
        if func is torch.Tensor.cuda:
            return move(args[0], True, kwargs.get("non_blocking", False))
        if func is torch.Tensor.to:
            return _to(func, args[0], args[1:], kwargs)
        if func is torch.Tensor.pin_memory:
            return pin(args[0].clone())
        if func is torch.Tensor.is_pinned:
            return is_pinned(args[0])
        if func is torch.Tensor.data_ptr and isinstance(args[0], PretendTensor):
            return args[0].on_host.data_ptr()
        if name == "__get__" and isinstance(args[0], PretendTensor) and func.__self__ is torch.Tensor.device:
            return CUDA
        if name == "one_hot" and isinstance(args[0], PretendTensor):  # in C++ it makes tensors on the CPU
            count_kernel(name)
            return PretendTensor(func(args[0].on_host, *args[1:], **kwargs))
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
            return pin(func(*args, **kwargs))
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            return _create(func, name, args, kwargs)
        return func(*args, **kwargs)


def _to(func: Any, tensor: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """`Tensor.to` of a device, a type, both, or another tensor's."""
    copy = kwargs.pop("copy", False)
    if args and isinstance(args[0], Tensor):
        device, dtype, non_blocking = args[0].device, args[0].dtype, kwargs.get("non_blocking", False)
    else:
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
    moved = tensor if device is None else move(tensor, torch.device(device).type == "cuda", non_blocking)
    if dtype is not None and dtype != moved.dtype:
        converted: Tensor = func(moved, dtype)
        return converted
    return moved.clone() if copy and moved is tensor else moved


def _create(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a function that makes a tensor on the pretended GPU."""
    require_cuda_generator(name, kwargs.get("generator"))
    if args and isinstance(args[0], PretendTensor):  # like another tensor there, so the operation itself is counted
        del kwargs["device"]
        return func(*args, **kwargs)
    kwargs["device"] = "cpu"
    requires_grad = kwargs.pop("requires_grad", False)
    if name in _FROM_HOST_VALUES:
        count_upload(f"torch.{name}(device=cuda)", pinned=False)
    elif name not in _WITHOUT_KERNEL:
        count_kernel(name)
    result = func(*args, **kwargs)
    if isinstance(result, PretendTensor) or not isinstance(result, Tensor):
        return result
    return PretendTensor(result).requires_grad_(requires_grad)
