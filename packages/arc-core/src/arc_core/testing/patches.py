"""What is replaced in torch while a GPU is pretended. Everything is undone at the end of the block."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad, rnn
from torch.nn.utils.rnn import PackedSequence
from torch.optim import Optimizer, optimizer
from torch.utils import _foreach_utils

from arc_core.testing.activity import count_late_wait, count_wait, num_kernels
from arc_core.testing.pretend_tensor import CUDA, PretendTensor


class PretendProperties:
    """Properties of the pretended GPU, which are those of a large one with tensor cores."""

    name = "pretended GPU"
    total_memory = 24 * 2**30
    major, minor = 9, 0
    multi_processor_count = 108


class PretendEvent:
    """An event: reading it at once stalls the device, reading it once more work is queued does not."""

    def __init__(self, *flags: object, **named_flags: object) -> None:
        self._kernels = 0

    def record(self, stream: object = None) -> None:
        """Marks the work that has been queued so far."""
        self._kernels = num_kernels()

    def query(self) -> bool:
        """Whether the marked work is done."""
        return True

    def synchronize(self) -> None:
        """Waits until the marked work is done."""
        if num_kernels() > self._kernels:
            count_late_wait("event")
        else:
            count_wait("event with nothing queued behind it")


@contextmanager
def patched_torch() -> Iterator[None]:
    """Makes torch and Fabric believe inside the block that there is one CUDA device, with tensors of this package."""
    with ExitStack() as stack:
        for replacements in (_replace_driver, _replace_autocast, _replace_modules, _replace_optimizers, _replace_rnn):
            for target, name, value in replacements():
                stack.enter_context(patch.object(target, name, value))
        yield


def _replace_driver() -> Iterator[tuple[Any, str, Any]]:
    """What asks the driver, which is not there: Fabric, seeding, memory figures, events."""
    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *args, **kwargs: True,
        "is_current_stream_capturing": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_capability": lambda device=None: (PretendProperties.major, PretendProperties.minor),
        "get_device_name": lambda device=None: PretendProperties.name,
        "get_device_properties": lambda device=None: PretendProperties,
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
        "get_rng_state": lambda device=None: torch.zeros(8, dtype=torch.uint8),
        "synchronize": lambda device=None: count_wait("synchronize"),
        "Event": PretendEvent,
    }
    for name in (
        "_lazy_init", "set_device", "empty_cache", "reset_peak_memory_stats", "manual_seed", "manual_seed_all",
        "set_rng_state",
    ):  # fmt: skip
        answers[name] = lambda *args, **kwargs: None
    yield from ((torch.cuda, name, answer) for name, answer in answers.items())
    # A compiler would generate code for the device. Graphs are tested without one, by the backend "aot_eager".
    yield torch, "compile", lambda model=None, **settings: model if model is not None else lambda model: model
    load = torch.load
    yield torch, "load", lambda file, map_location=None, **named: _load(load, file, map_location, named)


def _load(load: Callable[..., Any], file: Any, map_location: Any, named: dict[str, Any]) -> Any:
    if map_location is None or torch.device(map_location).type != "cuda":
        return load(file, map_location=map_location, **named)
    on_host = load(file, map_location="cpu", **named)
    return torch.utils._pytree.tree_map(lambda x: PretendTensor(x) if isinstance(x, Tensor) else x, on_host)


def _replace_autocast() -> Iterator[tuple[Any, str, Any]]:
    """Autocast for CUDA becomes that of the CPU, where the numbers are; it has the same two types."""
    real, is_enabled, get_dtype = torch.autocast, torch.is_autocast_enabled, torch.get_autocast_dtype

    def on_host(device_type: str | None) -> str:
        return "cpu" if device_type in ("cuda", None) else device_type

    class Autocast(real):  # type: ignore[misc, valid-type]  # a class at run time
        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__(on_host(device_type), *args, **kwargs)

    for module in (torch, torch.amp, torch.amp.autocast_mode):
        yield module, "autocast", Autocast
    yield torch, "is_autocast_enabled", lambda device_type=None: is_enabled(on_host(device_type))
    yield torch, "get_autocast_dtype", lambda device_type: get_dtype(on_host(device_type))
    # Tensors of inference mode cannot be wrapped. Modules that use it as a decorator are to be imported afterwards.
    yield torch, "inference_mode", torch.no_grad


def _replace_modules() -> Iterator[tuple[Any, str, Any]]:
    """`Module.to` for a module that is there already must not exchange its parameters, as autograd may hold them."""
    move_module = nn.Module.to

    def to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        targets = [value for value in (*args, *kwargs.values()) if isinstance(value, str | torch.device)]
        tensors = [*module.parameters(), *module.buffers()]
        is_there = bool(tensors) and all(isinstance(tensor, PretendTensor) for tensor in tensors)
        if is_there and len(args) + len(kwargs) == 1 and targets and torch.device(targets[0]).type == "cuda":
            return module
        return move_module(module, *args, **kwargs)

    yield nn.Module, "to", to


def _replace_optimizers() -> Iterator[tuple[Any, str, Any]]:
    """Optimisers and clipping use the kernels for many tensors at once, as for plain tensors on CUDA."""
    for module in (optimizer, _foreach_utils):
        yield module, "_foreach_supported_types", [*module._foreach_supported_types, PretendTensor]
    # torch groups tensors by the device that they have in C++, which is the CPU.
    group = _foreach_utils._group_tensors_by_device_and_dtype

    def group_tensors(lists: Any, with_indices: bool = False) -> Any:
        groups = group(lists, with_indices)
        is_pretended = {key: isinstance(tensors[0][0], PretendTensor) for key, (tensors, _) in groups.items()}
        return {(CUDA if is_pretended[key] else key[0], key[1]): value for key, value in groups.items()}

    for module in (_foreach_utils, clip_grad, optimizer):
        yield module, "_group_tensors_by_device_and_dtype", group_tensors
    # It asks the driver whether a CUDA graph is being captured.
    yield Optimizer, "_accelerator_graph_capture_health_check", lambda optimizer: None


def _replace_rnn() -> Iterator[tuple[Any, str, Any]]:
    """torch packs sequences in C++ with tensors that it makes on the device that it sees there, which is the CPU."""

    def pack(
        sequences: Tensor, lengths: Tensor, batch_first: bool = False, enforce_sorted: bool = True
    ) -> PackedSequence:
        steps = sequences if batch_first else sequences.transpose(0, 1)
        lengths, order = torch.sort(lengths, descending=True)
        sizes = [int((lengths > step).sum()) for step in range(int(lengths[0]))]
        order = order.to(sequences.device)  # torch's own function makes the host wait here, too
        rows = steps.index_select(0, order)
        data = torch.cat([rows[:size, step] for step, size in enumerate(sizes)])
        return PackedSequence(data, torch.tensor(sizes), order, order.argsort())

    def pad(
        packed: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
    ) -> tuple[Tensor, None]:
        sizes = packed.batch_sizes.tolist()
        steps = [
            functional.pad(part, (0, 0, 0, sizes[0] - len(part)), value=padding_value)
            for part in torch.split(packed.data, sizes)
        ]
        missing = (total_length or len(steps)) - len(steps)
        padded = functional.pad(torch.stack(steps, 1), (0, 0, 0, missing), value=padding_value)
        assert packed.unsorted_indices is not None
        rows = padded.index_select(0, packed.unsorted_indices)
        return (rows if batch_first else rows.transpose(0, 1)), None

    yield rnn, "pack_padded_sequence", pack
    yield rnn, "pad_packed_sequence", pad
    yield nn.RNNBase, "flatten_parameters", lambda module: None  # it arranges weights for cuDNN
