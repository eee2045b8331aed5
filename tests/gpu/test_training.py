"""Every trainer and solver on a GPU that is only pretended: the real commands train to the end, resume and solve.

What runs on the CPU by design also where there is a GPU: the search prior and the step policy, every search of programs
(with the latents of a JEPA too), and the writing of triples. These must not mind that a GPU is there.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from arc_core.settings import Precision
from arc_core.testing.activity import Activity
from tests.gpu.flows import METHODS, Report, method_of, read_reports

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# joblib's workers would have no pretended GPU; with one core it runs their work in the process itself.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "500", "LOKY_MAX_CPU_COUNT": "1"}
NUM_TASKS = 5  # that the solvers are asked


@dataclass(frozen=True)
class Limits:
    """What a trainer may ask of the GPU at most.

    Attributes:
        waits: of the host for the device in one optimiser step.
        pageable: copies to the device in one step whose memory is not page-locked, for which the host waits as well.
        copies: all copies to the device in one step.
        logged: waits of both kinds outside the step where its metrics are read; None where validation falls there.
    """

    waits: int
    pageable: int
    copies: int
    logged: int | None


# In float16 each step reads whether a gradient has overflowed. RLAN, JEPA and hrm-adamw take two batches a step; JEPA
# replaces unused codes in every second of these steps. A step of the active reasoner is an iteration: a rollout of four
# steps of eight episodes and two updates; how often it asks depends a little on the episodes that it plays.
LIMITS: dict[tuple[str, Precision], Limits] = {
    ("hrm", "bfloat16"): Limits(waits=0, pageable=0, copies=1, logged=3),
    ("hrm", "float16"): Limits(waits=1, pageable=0, copies=1, logged=3),
    ("hrm-adamw", "float16"): Limits(waits=1, pageable=0, copies=2, logged=3),
    ("hrm-muon", "float16"): Limits(waits=1, pageable=0, copies=1, logged=3),
    ("trm", "bfloat16"): Limits(waits=0, pageable=0, copies=1, logged=3),
    ("transformer", "bfloat16"): Limits(waits=0, pageable=0, copies=1, logged=3),
    ("rlan", "bfloat16"): Limits(waits=0, pageable=0, copies=2, logged=4),
    ("rlan", "float16"): Limits(waits=1, pageable=0, copies=2, logged=4),
    ("rlan-stable", "bfloat16"): Limits(waits=0, pageable=0, copies=12, logged=4),
    ("jepa", "bfloat16"): Limits(waits=1, pageable=1, copies=13, logged=2),
    ("program-jepa", "bfloat16"): Limits(waits=0, pageable=1, copies=3, logged=2),
    ("active-reasoner-bc", "bfloat16"): Limits(waits=0, pageable=0, copies=1, logged=0),
    ("active-reasoner", "bfloat16"): Limits(waits=30, pageable=80, copies=100, logged=None),
}
REASONER_FLOW = ("program-jepa", "active-reasoner-bc", "active-reasoner")  # each needs the one before

Reports = Callable[..., Report]


@pytest.fixture(scope="module")
def report_of(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """Returns a function that returns the report of a recipe; its flow is run when it is first asked for."""
    root = tmp_path_factory.mktemp("flows")

    def report(name: str, *precisions: Precision) -> Report:
        flow = "reasoner" if name in REASONER_FLOW else name
        folder = root / "-".join((flow, *precisions))
        if not (folder / "report.json").exists():
            precision, *resumed = precisions
            done = subprocess.run(
                [sys.executable, "-m", "tests.gpu.flows", flow, precision, str(folder), *resumed],
                cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / "output.txt").write_text(done.stdout + done.stderr)
        result = read_reports(folder / "report.json")[name]
        if result.train_status or result.resume_status:
            pytest.fail((folder / "output.txt").read_text())
        return result

    return report


def recipes(marks: dict[tuple[str, Precision], Limits]) -> list[object]:
    """Returns the recipes as parameters with readable names."""
    return [pytest.param(*key, id="-".join(key)) for key in marks]


@pytest.mark.parametrize(("name", "precision"), recipes(LIMITS))
def test_the_command_trains_to_its_end_and_resumes_bit_for_bit_and_its_solver_answers(
    report_of: Reports, name: str, precision: Precision
) -> None:
    report = report_of(name, precision)
    assert (report.train_status, report.resume_status) == (0, 0)
    assert report.has_summary
    assert len(report.trained_steps) >= 2
    assert report.resumed_steps == report.trained_steps
    assert report.differences == []
    assert report.answers == (NUM_TASKS if METHODS[method_of(name)].solver else 0)


@pytest.mark.parametrize(("name", "precision"), recipes(LIMITS))
def test_no_step_asks_more_of_the_gpu_than_its_limits(report_of: Reports, name: str, precision: Precision) -> None:
    report, limits = report_of(name, precision), LIMITS[name, precision]
    for activity in report.steps:
        assert activity.kernels.total() > 0, "the step has not run on the GPU"
        assert activity.waits.total() <= limits.waits, activity.describe()
        assert activity.pageable_uploads.total() <= limits.pageable, activity.describe()
        assert activity.uploads.total() <= limits.copies, activity.describe()
    if limits.logged is not None:
        after_first_step: Activity = report.between[0]  # neither validation nor saving follows the first step
        stalls = after_first_step.waits + after_first_step.pageable_uploads
        assert stalls.total() <= limits.logged, after_first_step.describe()


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("transformer", "bfloat16", "float16"), ("transformer", "float16", "float32"), ("rlan", "float16", "bfloat16")],
)
def test_a_run_goes_on_in_another_precision(report_of: Reports, name: str, before: Precision, after: Precision) -> None:
    report = report_of(name, before, after)
    assert (report.train_status, report.resume_status) == (0, 0)
    assert report.resumed_steps == report.trained_steps
    assert report.differences  # else it was not another precision
    assert report.answers == NUM_TASKS


def test_the_search_prior_and_the_step_policy_leave_a_gpu_alone(report_of: Reports) -> None:
    report = report_of("search-prior", "float32")
    assert report.train_status == 0
    assert report.answers == NUM_TASKS
    (activity,) = report.steps
    assert activity.kernels.total() == activity.waits.total() == activity.uploads.total() == 0
