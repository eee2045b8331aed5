import math
import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from torch import nn

from arc_core.errors import InputError, RunFailure
from arc_core.loop import (
    ExponentialAverage,
    GradientStep,
    LossCheck,
    autocast_dtype,
    can_fuse,
    check_finite,
    load_optimizer,
    load_scaler,
    make_schedule,
    open_fabric,
    scaler_note,
)
from arc_core.signals import StopSignals


def rates(name: str, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = make_schedule(optimizer, name, steps, 0.25)  # type: ignore[arg-type]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_onecycle_rises_to_the_maximum_and_falls_once() -> None:
    found = rates("onecycle", 40)
    top = found.index(max(found))
    assert top == pytest.approx(0.25 * 40, abs=1)
    assert max(found) == pytest.approx(0.5, rel=0.01)
    assert found[:top] == sorted(found[:top])
    assert found[top:] == sorted(found[top:], reverse=True)


def test_cosine_and_constant_follow_their_formulas() -> None:
    assert rates("cosine", 20) == pytest.approx([0.25 * (1 + math.cos(math.pi * t / 20)) for t in range(20)])
    assert rates("constant", 5) == [0.5] * 5


def test_the_average_ramps_up_as_its_formula_says() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    average, expected = ExponentialAverage(model, 0.9), 1.0
    for step in range(200):
        nn.init.constant_(model.weight, float(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.average_parameters():
        assert model.weight.item() == pytest.approx(expected, rel=1e-5)
    assert model.weight.item() == 199.0
    other = ExponentialAverage(model, 0.9)
    other.load_state_dict(average.state_dict())
    assert other.state_dict()["weight"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_the_run(loss: float) -> None:
    with pytest.raises(RunFailure, match=r"loss of step 12 .* learning rate too high"):
        check_finite(loss, 12, 1e-3)
    check_finite(0.3, 12, 1e-3)


def float16_fabric() -> Fabric:
    """What this project reads of a Fabric that trains in float16, with a scaler that works on the CPU."""
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    return cast(Fabric, SimpleNamespace(strategy=SimpleNamespace(precision=precision)))


def scaled_backward(fabric: Fabric, loss: torch.Tensor) -> None:
    fabric.strategy.precision.backward(loss, None)


@pytest.mark.parametrize("count", [1, 2])
def test_scaled_gradients_are_unscaled_clipped_by_their_common_norm_and_stepped_once(count: int) -> None:
    fabric = float16_fabric()
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    shares = [weights] if count == 1 else [weights[:1], weights[1:]]
    optimizers = [torch.optim.SGD(share, lr=1.0) for share in shares]
    wrappers = [fabric_wrapper(fabric, optimizer) for optimizer in optimizers]
    step = GradientStep(fabric, weights, wrappers)
    scaled_backward(fabric, 3 * weights[0].sum() + 4 * weights[1].sum())
    step.unscale()
    assert step.clip(None).item() == 5.0
    assert step.clip(1.0).item() == 5.0
    step.update()
    assert [weight.item() for weight in weights] == pytest.approx([-0.6, -0.8])
    assert all(weight.grad is None for weight in weights)
    assert fabric.strategy.precision.state_dict()["_growth_tracker"] == 1  # of one step, however many optimisers


def fabric_wrapper(fabric: Fabric, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Does what Fabric's wrapper does: it steps the scaler, which steps the optimiser."""
    precision = fabric.strategy.precision
    wrapper = SimpleNamespace(
        optimizer=optimizer, param_groups=optimizer.param_groups, zero_grad=optimizer.zero_grad,
        step=lambda: precision.optimizer_step(optimizer),
    )  # fmt: skip
    return cast(torch.optim.Optimizer, wrapper)


def test_an_overflow_in_one_optimisers_gradients_lets_all_of_them_skip_the_step() -> None:
    fabric = float16_fabric()
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    wrappers = [fabric_wrapper(fabric, torch.optim.SGD([weight], lr=1.0)) for weight in weights]
    step = GradientStep(fabric, weights, wrappers)
    scaled_backward(fabric, math.inf * weights[0].sum() + weights[1].sum())
    step.unscale()
    step.clip(1.0)
    step.update()
    assert [weight.item() for weight in weights] == [0.0, 0.0]
    assert fabric.strategy.precision.state_dict()["scale"] == 512.0  # halved once


def test_adamw_is_fused_exactly_where_nothing_scales_gradients() -> None:
    assert can_fuse(open_fabric("cpu", "float16"))  # the CPU computes in float32
    assert not can_fuse(float16_fabric())
    assert autocast_dtype(open_fabric("cpu", "bfloat16")) == torch.float32
    assert autocast_dtype(float16_fabric()) == torch.float16


@pytest.mark.parametrize("fused", [False, True])
def test_a_loaded_optimiser_stays_fused_or_not_and_continues_the_same(fused: bool) -> None:
    def make(fused: bool) -> tuple[nn.Parameter, torch.optim.Optimizer]:
        weight = nn.Parameter(torch.ones(3))
        return weight, torch.optim.AdamW([weight], 0.1, fused=fused)

    def take_step(weight: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        weight.grad = torch.arange(3.0)
        optimizer.step()

    first, saved = make(not fused)
    take_step(first, saved)
    second, loaded = make(fused)
    load_optimizer(loaded, saved.state_dict())
    second.data.copy_(first.data)
    assert loaded.param_groups[0]["fused"] is fused
    take_step(first, saved)
    take_step(second, loaded)
    assert torch.allclose(first, second)


def test_a_scaler_is_restored_only_where_both_have_one() -> None:
    cpu, half = open_fabric("cpu", "float32"), float16_fabric()
    state = dict(half.strategy.precision.state_dict())
    load_scaler(half, {})
    assert half.strategy.precision.state_dict() == state
    load_scaler(half, state | {"scale": 8.0})
    assert half.strategy.precision.state_dict()["scale"] == 8.0
    load_scaler(cpu, state)
    assert "left out" in scaler_note(cpu, state)
    assert "a new one" in scaler_note(half, {})
    assert scaler_note(cpu, {}) == scaler_note(cpu, None) == scaler_note(half, state) == ""


def test_losses_that_cannot_be_read_at_once_are_checked_before_anything_is_saved() -> None:
    check = LossCheck(open_fabric("cpu", "float32"))

    def loss_on_a_gpu(value: float) -> torch.Tensor:
        on_gpu = SimpleNamespace(device=torch.device("cuda"), detach=lambda: torch.tensor(value))
        return cast(torch.Tensor, on_gpu)

    check.add(loss_on_a_gpu(1.0), 1, 1e-3)
    check.confirm()
    check.add(loss_on_a_gpu(0.5), 2, 1e-3)
    check.add(loss_on_a_gpu(math.nan), 3, 2e-3)
    check.add(loss_on_a_gpu(math.nan), 4, 1e-3)
    with pytest.raises(RunFailure, match=r"loss of step 3 is nan; .*it is 2.00e-03"):
        check.confirm()
    check.confirm()
    with pytest.raises(RunFailure, match="loss of step 5"):  # on the CPU before the step changes the weights
        check.add(torch.tensor(math.inf), 5, 1e-3)


def test_a_device_that_is_not_there_is_refused() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="torch sees none"):
            open_fabric("cuda", "bfloat16")
    assert open_fabric("cpu", "bfloat16").device.type == "cpu"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_asks_and_handlers_are_put_back(number: signal.Signals, status: int) -> None:
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert signals.exit_status == 0
        os.kill(os.getpid(), number)
        assert signals.received == number
        assert signals.exit_status == status
    assert signal.getsignal(number) == before


def test_the_second_signal_ends_the_process_at_once() -> None:
    code = (
        "import os, signal, time\n"
        "from arc_core.signals import StopSignals\n"
        "with StopSignals():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=50).returncode == 143


def test_restarts_over_several_machines_are_refused_without_a_store_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = {
        "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_MAX_RESTARTS": "3", "GROUP_WORLD_SIZE": "2",
        "WORLD_SIZE": "4",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE"):
        open_fabric("cpu", "float32")
