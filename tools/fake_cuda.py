"""Counts the memory of a training step on fake CUDA tensors, which have a shape, a type and a device but no numbers.

Nothing is computed, so a step of any size can be counted on a machine without a GPU. What is counted is what the
eager step would ask CUDA's allocator for; kernels' workspaces and fragmentation come on top.
"""

import heapq
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class MemoryCounter(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive on a device, each storage once.

    Attributes:
        now: bytes alive.
        peak: largest number of bytes alive since `peak` was last set.
    """

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self._device_type = device_type
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def add(self, tensor: Tensor) -> None:
        """Counts a tensor's storage until it is freed."""
        if tensor.device.type != self._device_type:
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, key, size).atexit = False

    def _remove(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return result


class GpuAttention(TorchFunctionMode):
    """Replaces scaled_dot_product_attention by the kernel that CUDA would choose, as it chooses another without a GPU.

    That is flash attention where nothing is masked and the type has 16 bits, and memory-efficient attention elsewhere.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query, key, value = args[:3]
        mask, scale = kwargs.get("attn_mask"), kwargs.get("scale")
        if torch.is_autocast_enabled("cuda"):
            query, key, value = (part.to(torch.get_autocast_dtype("cuda")) for part in (query, key, value))
        if mask is None and query.dtype != torch.float32 and query.shape[-1] == value.shape[-1]:
            return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)[0]
        bias = None
        if mask is not None:  # the kernel reads numbers; a bool mask is converted, and then broadcast without a copy
            bias = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
            bias = bias.expand(*query.shape[:3], key.shape[2])
        return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, bias, True, scale=scale)[0]


@contextmanager
def fake_cuda() -> Iterator[MemoryCounter]:
    """Lets tensors of device "cuda" be made without a GPU inside the block, and counts their memory."""
    torch._C._ensureCUDADeviceGuardSet()
    with (
        patch.object(torch.cuda, "is_available", lambda: True),  # or autocast switches itself off
        patch.object(torch.cuda, "is_bf16_supported", lambda *_, **__: True),
        FakeTensorMode(allow_non_fake_inputs=True),
        GpuAttention(),
        MemoryCounter("cuda") as memory,
    ):
        yield memory


def backward(take_loss: Callable[[], Tensor]) -> None:
    """Computes the gradients of a scalar, as `Tensor.backward` does, but without autograd's engine.

    The engine asks the CUDA driver for streams, which fails without a GPU. Nodes run in the engine's order, those made
    last first, and what a node has saved is freed once it has run.

    Args:
        take_loss: returns the loss; nobody else may hold it, or its graph would stay alive.
    """
    loss = take_loss()
    root, root_gradient = loss.grad_fn, torch.ones_like(loss)
    del loss
    assert root is not None
    waiting = _count_uses(root)
    gradients: dict[int, list[Tensor | None]] = {_key(root): [root_gradient]}
    ready: list[tuple[int, Node]] = [(-_key(root), root)]
    del root, root_gradient
    while ready:
        _, node = heapq.heappop(ready)
        # Gradient checkpointing recomputes a block once for each pass of the engine, which it tells by this number.
        with torch.no_grad(), patch.object(torch._C, "_current_graph_task_id", lambda: 1):
            outcome = node(*gradients.pop(_key(node)))  # type: ignore[operator]
        results = outcome if isinstance(outcome, tuple) else (outcome,)
        del outcome
        targets = node.next_functions
        del node
        for (target, index), result in zip(targets, results, strict=True):
            if target is None:
                continue
            if hasattr(target, "variable"):
                _accumulate(target.variable, _fit(result, target, index))
                continue
            key = _key(target)
            if key not in gradients:
                gradients[key] = [None] * len(target._input_metadata)
            earlier, fitted = gradients[key][index], _fit(result, target, index)
            gradients[key][index] = fitted if earlier is None else earlier if fitted is None else earlier + fitted
            waiting[key] -= 1
            if waiting[key] == 0:
                heapq.heappush(ready, (-key, target))
            del target, earlier, fitted
        del targets, results, result


def _key(node: Node) -> int:
    """Returns a node's number in the order of the forward pass; nodes themselves must not be kept alive."""
    return int(node._sequence_nr())


def _count_uses(root: Node) -> dict[int, int]:
    """Returns how many gradients each node of a graph waits for, by its key."""
    counts: dict[int, int] = {}
    stack, seen = [root], {_key(root)}
    while stack:
        for target, _ in stack.pop().next_functions:
            if target is None or hasattr(target, "variable"):
                continue
            key = _key(target)
            counts[key] = counts.get(key, 0) + 1
            if key not in seen:
                seen.add(key)
                stack.append(target)
    return counts


def _fit(gradient: Tensor | None, target: Node, index: int) -> Tensor | None:
    """Gives a gradient the shape and type that a node expects, summing over what was broadcast, as the engine does."""
    if gradient is None:
        return None
    metadata = target._input_metadata[index]
    if gradient.shape != metadata.shape:
        gradient = gradient.sum_to_size(metadata.shape)
    return gradient.to(metadata.dtype)


def _accumulate(variable: Tensor, gradient: Tensor | None) -> None:
    if gradient is None:
        return
    gradient = gradient.detach()
    variable.grad = gradient if variable.grad is None else variable.grad + gradient
