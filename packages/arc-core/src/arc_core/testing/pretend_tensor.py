"""A tensor that holds its numbers on the CPU and says that it is on cuda:0.

Every operation reaches `PretendTensor.__torch_dispatch__`, which refuses what CUDA would refuse, records what it would
cost, and computes the result on the CPU. Autograd and autocast act before that, as they do on a real device.
"""

import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from arc_core.testing.activity import count_download, count_kernel, count_upload, count_wait, program_lines

CUDA = torch.device("cuda", 0)

# Operations that only change a shape, or only reserve memory.
_WITHOUT_KERNEL = {
    "view", "_unsafe_view", "expand", "permute", "transpose", "t", "slice", "select", "unsqueeze", "squeeze", "detach",
    "alias", "split", "split_with_sizes", "chunk", "unbind", "as_strided", "diagonal", "reshape", "_reshape_alias",
    "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "lift_fresh", "is_same_size", "unfold",
}  # fmt: skip
# Operations whose size of result, or whose check of errors, the host has to read from the device.
_WAITING = {
    "_local_scalar_dense": "item", "is_nonzero": "item", "nonzero": "nonzero", "masked_select": "masked_select",
    "_unique2": "unique", "unique_dim": "unique", "unique_consecutive": "unique_consecutive", "bincount": "bincount",
    "histc": "histc", "equal": "equal", "_linalg_svd": "svd", "_linalg_eigh": "eigh",
    "_linalg_check_errors": "linalg error check",
}  # fmt: skip
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
# Operations that may have tensors of both devices: copies, and the lengths of sequences, which are on the host.
_OF_TWO_DEVICES = {"copy_", "_pack_padded_sequence", "_pad_packed_sequence"}


class PretendTensor(torch.Tensor):
    """A tensor on the pretended GPU; `on_host` has its numbers, on the CPU."""

    on_host: Tensor

    @staticmethod
    def __new__(cls, on_host: Tensor, requires_grad: bool | None = None) -> "PretendTensor":
        tensor: PretendTensor = torch.Tensor._make_wrapper_subclass(
            cls, on_host.size(), strides=on_host.stride(), storage_offset=on_host.storage_offset(),
            dtype=on_host.dtype, layout=on_host.layout, device=on_host.device,
            requires_grad=on_host.requires_grad if requires_grad is None else requires_grad,
        )  # fmt: skip
        tensor.on_host = on_host.detach()
        return tensor

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __repr__(self) -> str:  # type: ignore[override]  # torch's further argument is for itself
        return f"PretendTensor({self.on_host!r})"

    def numpy(self, *, force: bool = False) -> Any:
        """Refuses, as CUDA does: numpy reads only memory of the host."""
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
            f"first. ({program_lines()})"
        )

    def __array__(self, dtype: object = None, copy: object = None) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        """Returns the numbers as nested lists, for which the host waits."""
        count_wait("tolist")
        return self.on_host.tolist()

    def __deepcopy__(self, memo: dict[int, object]) -> "PretendTensor":
        copied = PretendTensor(self.on_host.clone(), self.requires_grad)
        if getattr(self, "_is_param", False):
            copied._is_param = True  # torch's mark of a parameter
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Is pickled, and so saved, as the tensor on the host that it is copied to; the host waits for the copy."""
        count_wait("save")
        return self.on_host.clone().__reduce_ex__(protocol)  # type: ignore[no-untyped-call]  # torch has no types here

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """Lets `Module.to` exchange the content of a parameter, so that it stays the same object, as on any device."""
        return ["on_host"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, Tensor], context: None, size: object, stride: object) -> "PretendTensor":
        return PretendTensor(parts["on_host"])

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares it without `func`
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        _require_one_device(name, args, kwargs)
        require_cuda_generator(name, kwargs.get("generator"))
        _count_operation(name, func, args, kwargs)
        if name == "copy_" and not isinstance(args[0], PretendTensor):
            return _copy_to_host(args[0], args[1].on_host, non_blocking=len(args) > 2 and args[2])
        result = func(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
        written = _written_argument(func)
        if written is not None:
            return kwargs[written] if written in kwargs else args[0]
        if name in ("_pack_padded_sequence", "_pad_packed_sequence"):
            return PretendTensor(result[0]), result[1]  # the sizes of batches stay on the host
        return tree_map(_wrap, result)


def _unwrap(value: Any) -> Any:
    return value.on_host if isinstance(value, PretendTensor) else value


def _wrap(value: Any) -> Any:
    return PretendTensor(value) if type(value) is torch.Tensor else value


@cache
def _written_argument(func: Any) -> str | None:
    """Returns the name of the argument that an operation writes to and returns; None for one that returns others."""
    written = [value.alias_info for value in func._schema.returns]
    if len(written) != 1 or written[0] is None or not written[0].is_write:
        return None
    arguments = func._schema.arguments
    name: str = next(arg.name for arg in arguments if arg.alias_info is not None and arg.alias_info.is_write)
    return name


def _require_one_device(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raises RuntimeError where CUDA would, as an operation has tensors of both devices.

    A CPU tensor of one number may be anywhere, and CPU indices of a CUDA tensor are copied.
    """
    if name in _OF_TWO_DEVICES:
        return
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    on_host = [tensor for tensor in tensors if not isinstance(tensor, PretendTensor) and tensor.dim() > 0]
    if not on_host:
        return
    if name in _INDEXING and isinstance(args[0], PretendTensor):
        values = args[2] if len(args) > 2 else None
        if not isinstance(values, Tensor) or isinstance(values, PretendTensor) or values.dim() == 0:
            for _ in on_host:
                count_upload(f"{name} by an index on the host", pinned=False)
            return
    shapes = [(type(tensor).__name__, tuple(tensor.shape)) for tensor in tensors]
    raise RuntimeError(
        f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
        f"({name} of {shapes} at {program_lines()})"
    )


def require_cuda_generator(name: str, generator: torch.Generator | None) -> None:
    """Raises RuntimeError where CUDA would, as an operation draws from a generator of the CPU."""
    if generator is not None and generator.device.type != "cuda":
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({name} at {program_lines()})")


def _count_operation(name: str, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    if name in _WAITING:
        count_wait(_WAITING[name])
    elif name == "repeat_interleave" and func._overloadname == "Tensor" and kwargs.get("output_size") is None:
        count_wait("repeat_interleave without output_size")
    elif name in _INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1]):
        count_wait(f"{name} by a boolean mask")
    elif name == "copy_" and not isinstance(args[1], PretendTensor):
        count_upload("copy_", pinned=is_pinned(args[1]) and len(args) > 2 and bool(args[2]))
    if name not in _WITHOUT_KERNEL:
        count_kernel(name)


def _copy_to_host(target: Tensor, source: Tensor, non_blocking: bool) -> Tensor:
    if non_blocking and is_pinned(target):
        count_download("copy_")
    else:
        count_wait("copy_ to the host")
    return target.copy_(source)


class _Move(torch.autograd.Function):
    """A copy between the devices through which gradients flow back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, to_device: bool) -> Tensor:
        ctx.to_device = to_device
        return _copy(tensor.detach(), to_device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _copy(gradient, not ctx.to_device), None


def _copy(tensor: Tensor, to_device: bool) -> Tensor:
    return PretendTensor(tensor.detach().clone()) if to_device else _unwrap(tensor).clone()


def move(tensor: Tensor, to_device: bool, non_blocking: bool = False) -> Tensor:
    """Copies a tensor to the pretended GPU, or from it to the host; returns it as it is where it is there already."""
    if isinstance(tensor, PretendTensor) == to_device:
        return tensor
    if to_device:
        count_upload("to(cuda)", pinned=non_blocking and is_pinned(tensor))
    else:
        count_wait("copy to the host")
    if tensor.requires_grad and torch.is_grad_enabled():
        moved: Tensor = _Move.apply(tensor, to_device)
        return moved
    return _copy(tensor, to_device)


_pinned_storages: set[int] = set()


def pin(tensor: Tensor) -> Tensor:
    """Marks the memory of a tensor on the host as page-locked, and returns the tensor."""
    storage = tensor.untyped_storage()
    if storage._cdata not in _pinned_storages:
        _pinned_storages.add(storage._cdata)
        weakref.finalize(storage, _pinned_storages.discard, storage._cdata).atexit = False
    return tensor


def is_pinned(tensor: Tensor) -> bool:
    """Whether `pin` has marked the memory of a tensor."""
    return not isinstance(tensor, PretendTensor) and tensor.untyped_storage()._cdata in _pinned_storages
