import math
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from arc_core.errors import InputError, RunFailure
from arc_core.loop import ExponentialAverage, check_finite, make_schedule, open_fabric
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
