"""The pretended GPU refuses what CUDA refuses, counts what costs time, computes as the CPU does, and goes away."""

import copy
import io
import sys
from collections.abc import Callable, Iterator
from types import FunctionType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arc_core.device import solving_autocast
from arc_core.loop import autocast_dtype, gradient_scaler, open_fabric
from arc_core.testing.activity import Activity, record_activity
from arc_core.testing.pretend_gpu import pretend_gpu
from arc_core.testing.pretend_tensor import PretendTensor
from arc_core.transfer import Download, upload

CUDA = torch.device("cuda", 0)
HERE = "test_pretend_gpu.py:"


@pytest.fixture
def activity() -> Iterator[Activity]:
    """Pretends a GPU during a test, and returns its activity."""
    with pretend_gpu(), record_activity() as activity:
        yield activity


@pytest.fixture
def values(activity: Activity) -> Tensor:
    """A (2, 3) float32 tensor on the GPU, whose upload is not counted any more."""
    values = torch.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]]).to("cuda")
    activity.pageable_uploads.clear()
    return values


def test_a_tensor_says_that_it_is_on_the_gpu_and_all_made_of_it_too(values: Tensor) -> None:
    assert values.device == CUDA
    assert values.is_cuda
    assert not values.is_cpu
    for derived in (values + 1, values[0], values.T, values.new_zeros(3), torch.zeros_like(values), values.clone()):
        assert derived.device == CUDA
    assert values.cpu().device.type == "cpu"
    assert torch.full((2,), 7, device="cuda").device == CUDA


def test_tensors_of_two_devices_are_refused(values: Tensor) -> None:
    for operation in (
        lambda: values + torch.ones(3),
        lambda: torch.cat([values, torch.ones(2, 3)]),
        lambda: torch.where(torch.ones(2, 3, dtype=torch.bool), values, 0.0),
        lambda: nn.Linear(3, 1)(values),
        lambda: values.index_put((torch.tensor([0]),), torch.ones(1, 3)),
    ):
        with pytest.raises(RuntimeError, match=f"same device, but found at least two devices, cuda:0 and cpu.*{HERE}"):
            operation()
    assert torch.equal((values * torch.tensor(2.0)).cpu(), values.cpu() * 2)  # one number may be anywhere


def test_numpy_cannot_read_the_gpu(values: Tensor) -> None:
    for read in (lambda: values.numpy(), lambda: np.asarray(values), lambda: values.detach().numpy()):
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            read()
    assert values.cpu().numpy().shape == (2, 3)


def test_a_generator_of_the_cpu_cannot_draw_on_the_gpu(values: Tensor) -> None:
    generator = torch.Generator()
    for draw in (
        lambda: torch.rand(3, device="cuda", generator=generator),
        lambda: values.uniform_(generator=generator),
    ):
        with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
            draw()


@pytest.mark.parametrize(
    ("wait", "cause"),
    [
        (lambda x: x.sum().item(), "item"),
        (lambda x: float(x[0, 0]), "item"),
        (lambda x: bool((x > 0).any()), "item"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: x.cpu(), "copy to the host"),
        (lambda x: x.to("cpu"), "copy to the host"),
        (lambda x: torch.empty(2, 3).copy_(x), "copy_ to the host"),
        (lambda x: torch.empty(2, 3).copy_(x, non_blocking=True), "copy_ to the host"),  # its memory is pageable
        (lambda x: x[x > 0], "index by a boolean mask"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: torch.where(x > 0), "nonzero"),
        (lambda x: x.masked_select(x > 0), "masked_select"),
        (lambda x: x.unique(), "unique"),
        (lambda x: x.abs().long().flatten().bincount(), "bincount"),
        (lambda x: x.flatten().repeat_interleave(x.abs().long().flatten()), "repeat_interleave without output_size"),
        (lambda x: torch.save(x, io.BytesIO()), "save"),
        (lambda x: torch.cuda.synchronize(), "synchronize"),
    ],
)
def test_a_wait_of_the_host_is_counted_with_the_line_that_caused_it(
    values: Tensor, activity: Activity, wait: Callable[[Tensor], object], cause: str
) -> None:
    wait(values)
    assert activity.waits.total() == 1, activity.describe()
    assert next(iter(activity.waits)).startswith(f"{cause} @ {HERE}")
    assert not activity.uploads


def test_what_needs_no_number_does_not_wait(values: Tensor, activity: Activity) -> None:
    repeats = values.abs().long().flatten()
    values.flatten().repeat_interleave(repeats, output_size=21)
    torch.where(values > 0, values, 0.0).cumsum(0).sort().values.index_select(1, repeats[:2])
    assert not activity.waits
    assert not activity.uploads
    assert activity.kernels["sort"] == 1
    assert not activity.kernels["view"]


def test_copies_to_the_gpu_are_counted_and_only_pinned_ones_let_the_host_go_on(
    values: Tensor, activity: Activity
) -> None:
    for copy_pageable in (
        lambda: torch.ones(3).to("cuda"),
        lambda: torch.ones(3).to("cuda", non_blocking=True),
        lambda: torch.ones(3).cuda(),
        lambda: torch.ones(3).pin_memory().to("cuda"),
        lambda: torch.tensor([1, 2], device="cuda"),
        lambda: values.copy_(torch.ones(2, 3)),
        lambda: values[torch.tensor([0])],  # an index on the host
    ):
        copy_pageable()
        assert activity.pageable_uploads.total() == 1
        assert HERE in next(iter(activity.pageable_uploads))
        activity.pageable_uploads.clear()
    pinned = torch.empty(6, pin_memory=True)
    for copy_pinned in (
        lambda: torch.ones(3).pin_memory().to("cuda", non_blocking=True),
        lambda: pinned[:3].to("cuda", non_blocking=True),
        lambda: values.copy_(pinned.view(2, 3), non_blocking=True),
    ):
        copy_pinned()
    assert activity.pinned_uploads.total() == activity.uploads.total() == 3
    assert pinned.is_pinned()
    assert not torch.ones(3).is_pinned()


def test_arrays_go_up_in_one_pinned_copy_and_come_down_while_the_host_goes_on(activity: Activity) -> None:
    arrays = [np.arange(6, dtype=np.int64).reshape(2, 3), np.array([True, False]), np.array([0.5], dtype=np.float32)]
    tensors = upload(arrays, CUDA)
    assert [tensor.device for tensor in tensors] == [CUDA] * 3
    assert activity.uploads == activity.pinned_uploads
    assert activity.uploads.total() == 1
    stalling, late = Download(tensors[0]), Download(tensors[0] * 2)
    assert (late.read() == 2 * arrays[0]).all()
    assert (activity.downloads.total(), activity.waits.total(), activity.late_waits.total()) == (2, 1, 0)
    assert (stalling.read() == arrays[0]).all()  # behind it, there was work in the queue
    assert (activity.waits.total(), activity.late_waits.total()) == (1, 1)


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3))


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("settings", [{"fused": True}, {"foreach": False}, {}], ids=["fused", "plain", "default"])
def test_gradients_and_optimiser_steps_are_those_of_the_cpu(
    make: type[torch.optim.Optimizer], settings: dict[str, bool]
) -> None:
    tokens, targets = torch.arange(10) % 5, torch.arange(10) % 3

    def train(device: str) -> tuple[list[Tensor], list[Tensor]]:
        network = make_network().to(device)
        optimizer = make(network.parameters(), lr=0.1, **settings)  # type: ignore[call-arg]  # of every optimiser
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(tokens.to(device)), targets.to(device)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            optimizer.step()
        gradients = [parameter.grad.cpu() for parameter in network.parameters() if parameter.grad is not None]
        return gradients, [parameter.detach().cpu() for parameter in network.parameters()]

    expected = train("cpu")
    with pretend_gpu():
        results = train("cuda")
    torch.testing.assert_close(results, expected, rtol=1e-6, atol=1e-7)


def test_gradients_flow_through_copies_between_the_devices(activity: Activity) -> None:
    weight = torch.tensor([2.0, 3.0], requires_grad=True)
    (weight.to("cuda") * 4).cpu().sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [4.0, 4.0]


def test_a_module_keeps_its_parameters_when_it_moves(activity: Activity) -> None:
    network = make_network()
    before = dict(network.named_parameters())
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    network.to("cuda")
    network(torch.tensor([1], device="cuda")).sum().backward()
    assert network.to("cuda") is network
    assert all(parameter is before[name] for name, parameter in network.named_parameters())
    assert all(isinstance(parameter, nn.Parameter) for parameter in network.parameters())
    weights = before["4.bias"].tolist()
    optimizer.step()
    assert before["4.bias"].tolist() == pytest.approx([weight - 1 for weight in weights])
    copied = copy.deepcopy(network)
    assert [type(parameter) for parameter in copied.parameters()] == [PretendTensor] * 7


def test_what_is_saved_is_loaded_on_the_device_that_is_asked_for(values: Tensor) -> None:
    file = io.BytesIO()
    torch.save({"values": values}, file)
    for place, device in (("cpu", "cpu"), ("cuda", "cuda"), (CUDA, "cuda")):
        file.seek(0)
        loaded = torch.load(file, map_location=place, weights_only=True)["values"]
        assert loaded.device.type == device
        assert loaded.tolist() == values.tolist()


def test_fabric_opens_the_gpu_with_autocast_and_scaler(activity: Activity) -> None:
    full, mixed, half = (open_fabric("cuda", precision) for precision in ("float32", "bfloat16", "float16"))
    assert full.device == mixed.device == CUDA
    assert open_fabric("auto", "float32").device == CUDA
    assert [autocast_dtype(fabric) for fabric in (full, mixed, half)] == [torch.float32, torch.bfloat16, torch.float16]
    assert gradient_scaler(mixed) is None
    assert gradient_scaler(half) is not None
    linear = make_network()[2].to("cuda")
    with mixed.autocast():
        assert linear(torch.ones(1, 8, device="cuda")).dtype == torch.bfloat16
    with solving_autocast(CUDA, "float16"):
        assert linear(torch.ones(1, 8, device="cuda")).dtype == torch.float16


def test_recordings_may_be_nested_and_cost_nothing_outside(values: Tensor, activity: Activity) -> None:
    with record_activity() as inner:
        values.sum().item()
    values.sum().item()
    assert (inner.waits.total(), activity.waits.total()) == (1, 2)
    assert activity.describe().startswith("2 waits, 0 pageable uploads, 0 pinned uploads, 0 downloads, 0 late waits, ")


def test_nothing_is_left_of_the_gpu() -> None:
    places = [
        (torch, name) for name in ("autocast", "load", "compile", "inference_mode", "is_autocast_enabled")
    ] + [(torch.cuda, name) for name in ("is_available", "device_count", "Event", "synchronize")]  # fmt: skip
    before = [getattr(module, name) for module, name in places]
    with pretend_gpu():
        assert all(getattr(module, name) is not value for (module, name), value in zip(places, before, strict=True))
        open_fabric("cuda", "float16")
        nn.LSTM(2, 2).to("cuda")(torch.ones(1, 1, 2, device="cuda"))
    assert all(getattr(module, name) is value for (module, name), value in zip(places, before, strict=True))
    assert type(torch.ones(1)) is Tensor
    if not torch.cuda.is_available():
        with pytest.raises((RuntimeError, AssertionError)):
            torch.ones(1, device="cuda")
    kept = {
        f"{name}.{key}"
        for name, module in list(sys.modules.items())
        for key, value in list(vars(module).items())
        if issubclass(type(value), FunctionType | type) and str(value.__module__).startswith("arc_core.testing")
        if "test" not in name
    }
    assert kept == set()
