"""The fault matrix: every long job against every fault of a user's machine.

A job never loses what it reported as saved, it reports a fault in one line, and its final result equals that of an
uninterrupted job, bit for bit. `ARC_FAULTS=full` runs the whole matrix, about 20 minutes on two cores, instead of a
slice that has every fault once or twice; `ARC_FAULT_KILLS` is the number of kills of a job (default 2).
"""

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from arc_core.checkpoint import list_checkpoints
from tests.conftest import JOBS, TRAINERS, Job

pytestmark = pytest.mark.slow

Jobs = Callable[[str], Job]
References = Callable[[str], Path]
KILLS = int(os.environ.get("ARC_FAULT_KILLS", "2"))
FULL = os.environ.get("ARC_FAULTS") == "full"


def finish(job: Job, folder: Path, reference: Path) -> None:
    """Resumes a job and asserts that its result is that of the uninterrupted job."""
    status, output = job.run(folder)
    assert status == 0, output
    assert job.result(folder) == job.result(reference)


def assert_one_line(output: str, *words: str) -> None:
    """Asserts that the last line of output is a message with one of the words, without a traceback."""
    assert "Traceback" not in output, output
    last = output.strip().splitlines()[-1]
    assert any(word in last for word in words), output


@pytest.mark.parametrize("name", JOBS if FULL else ("rlan", "compare"))
def test_kills_at_random_points_lose_nothing(
    name: str, job_of: Jobs, reference_run: References, tmp_path: Path
) -> None:
    job, reference, rng = job_of(name), reference_run(name), random.Random(name)
    end, kills = job.saved(reference), 0
    while kills < KILLS:
        folder = tmp_path / str(kills)
        while kills < KILLS and job.saved(folder) < end:
            before = job.saved(folder)
            process = job.start(folder)
            if rng.random() < 0.7:  # after something was saved; otherwise at any time, also at the start
                job.wait_until_saved(process, folder, before)
                time.sleep(rng.uniform(0, 0.05))
            else:
                time.sleep(rng.uniform(0.5, 6))
            reported = job.saved(folder)
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            assert job.saved(folder) >= reported >= before
        finish(job, folder, reference)


@pytest.mark.parametrize("name", TRAINERS if FULL else ("hrm",))
@pytest.mark.parametrize(("signals", "status"), [((signal.SIGTERM,), 143), ((signal.SIGINT, signal.SIGINT), 130)])
def test_a_signal_to_stop_saves_first(
    name: str, signals: tuple[signal.Signals, ...], status: int, job_of: Jobs, reference_run: References, tmp_path: Path
) -> None:
    job, reference, folder = job_of(name), reference_run(name), tmp_path / "run"
    process = job.start(folder)
    job.wait_until_saved(process, folder, 0)
    reported = job.saved(folder)
    for received in signals:  # at once, so that the second one arrives while training still runs
        process.send_signal(received)
    output, _ = process.communicate(timeout=120)
    assert process.returncode in (status, 0, -signals[-1]), output
    assert "Traceback" not in output, output
    assert job.saved(folder) >= reported
    finish(job, folder, reference)


@pytest.mark.parametrize("name", TRAINERS if FULL else ("jepa",))
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    name: str, damage: str, job_of: Jobs, reference_run: References, tmp_path: Path
) -> None:
    job, reference, folder = job_of(name), reference_run(name), tmp_path / "run"
    subprocess.run(["cp", "-r", str(reference), str(folder)], check=True)
    newest = list_checkpoints(folder / "checkpoints")[0]
    content = bytearray(newest.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 16
    newest.write_bytes(content)
    status, output = job.run(folder)
    assert status == 0, output
    assert newest.name in output  # names the damaged file
    assert job.result(folder) == job.result(reference)


@pytest.mark.parametrize("name", JOBS if FULL else ("hrm", "compare"))
def test_a_full_disk_loses_nothing(name: str, job_of: Jobs, reference_run: References, tmp_path: Path) -> None:
    """Limits the size of files that the process may write below that of its checkpoints or predictions."""
    job, reference, folder = job_of(name), reference_run(name), tmp_path / "run"
    files = [*reference.rglob("step_*.pt")] or [reference / "predictions.jsonl"]
    limit = files[0].stat().st_size // 2
    status, output = job.run(folder, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert status in (1, 2), output
    assert_one_line(output, "could not be written", "cannot be used", "cannot be written", "File too large")
    finish(job, folder, reference)


@pytest.mark.parametrize("name", JOBS if FULL else ("program-jepa", "compare"))
def test_a_folder_that_cannot_be_written_is_refused(name: str, job_of: Jobs) -> None:
    status, output = job_of(name).run(Path("/proc/none/run"))
    assert status == 2, output
    assert_one_line(output, "/proc/none")


@pytest.mark.parametrize("name", JOBS if FULL else ("jepa", "compare"))
def test_a_second_process_on_a_folder_is_refused(
    name: str, job_of: Jobs, reference_run: References, tmp_path: Path
) -> None:
    job, reference, folder = job_of(name), reference_run(name), tmp_path / "run"
    first = job.start(folder)
    job.wait_until_saved(first, folder, 0)
    first.send_signal(signal.SIGSTOP)  # it keeps the lock while the other one starts
    try:
        status, output = job.run(folder)
    finally:
        first.send_signal(signal.SIGCONT)
    assert status == 2, output
    assert_one_line(output, "being written by another process")
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 0, output
    assert job.result(folder) == job.result(reference)


@pytest.mark.parametrize("name", TRAINERS if FULL else ("hrm",))
def test_a_deleted_config_and_a_clock_set_back_do_no_harm(
    name: str, job_of: Jobs, reference_run: References, tmp_path: Path
) -> None:
    job, reference, folder = job_of(name), reference_run(name), tmp_path / "run"
    process = job.start(folder)
    job.wait_until_saved(process, folder, 0)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (folder / "config.yaml").unlink()
    for index, path in enumerate(sorted(folder.rglob("*"), reverse=True)):  # the clock is set back
        os.utime(path, (2e9 + index, 2e9 + index))
    finish(job, folder, reference)


@pytest.mark.parametrize("name", TRAINERS if FULL else ("rlan",))
def test_a_lack_of_memory_loses_nothing(name: str, job_of: Jobs, reference_run: References, tmp_path: Path) -> None:
    """Limits the memory of the process to what it has after its first checkpoint."""
    job, reference, folder = job_of(name), reference_run(name), tmp_path / "run"
    process = job.start(folder)
    job.wait_until_saved(process, folder, 0)
    if process.poll() is None:
        size = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(process.pid, resource.RLIMIT_AS, (size, size))
    output, _ = process.communicate(timeout=120)
    if process.returncode:  # the memory that it has may be enough to finish
        assert "Traceback" not in output, output
    finish(job, folder, reference)


def test_a_dead_worker_loses_nothing(job_of: Jobs, reference_run: References, tmp_path: Path) -> None:
    """Kills a worker process of the search, whose task must be solved again."""
    job, reference, folder = job_of("compare"), reference_run("compare"), tmp_path / "run"
    process = job.start(folder)
    job.wait_until_saved(process, folder, 30)
    workers = subprocess.run(["pgrep", "-g", str(process.pid), "-f", "LokyProcess"], capture_output=True, text=True)
    for worker in workers.stdout.split()[:1]:
        os.kill(int(worker), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert job.result(folder) == job.result(reference)
