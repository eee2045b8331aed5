"""The fault matrix: every long job against every fault that a user's machine has in store.

What a job reported to have saved is never lost, what it says is one line, and what it ends with after all equals what
an undisturbed job ends with, bit for bit. `ARC_FAULTS=full` runs the whole matrix, about 20 minutes on two cores, and
not only a slice that has every fault once or twice; `ARC_FAULT_KILLS` says how often a job is killed (default 2).
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
Wholes = Callable[[str], Path]
KILLS = int(os.environ.get("ARC_FAULT_KILLS", "2"))
FULL = os.environ.get("ARC_FAULTS") == "full"


def finish(job: Job, folder: Path, whole: Path) -> None:
    """Goes on to the end, which must be that of the undisturbed job."""
    status, said = job.run(folder)
    assert status == 0, said
    assert job.result(folder) == job.result(whole)


def one_line(said: str, *words: str) -> str:
    """The last line, which must be the message; no traceback before it."""
    assert "Traceback" not in said, said
    last = said.strip().splitlines()[-1]
    assert any(word in last for word in words), said
    return last


@pytest.mark.parametrize("name", JOBS if FULL else ("rlan", "compare"))
def test_kill_9_at_random_points(name: str, job_of: Jobs, whole_of: Wholes, tmp_path: Path) -> None:
    job, whole, rng = job_of(name), whole_of(name), random.Random(name)
    end, kills = job.saved(whole), 0
    while kills < KILLS:
        folder = tmp_path / str(kills)
        while kills < KILLS and job.saved(folder) < end:
            before = job.saved(folder)
            process = job.start(folder)
            if rng.random() < 0.7:  # after something was saved, else anywhere, the start included
                job.wait_until_saved(process, folder, before)
                time.sleep(rng.uniform(0, 0.05))
            else:
                time.sleep(rng.uniform(0.5, 6))
            reported = job.saved(folder)
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            assert job.saved(folder) >= reported >= before
        finish(job, folder, whole)


@pytest.mark.parametrize("name", TRAINERS if FULL else ("hrm",))
@pytest.mark.parametrize(("numbers", "status"), [((signal.SIGTERM,), 143), ((signal.SIGINT, signal.SIGINT), 130)])
def test_asked_to_stop(
    name: str, numbers: tuple[signal.Signals, ...], status: int, job_of: Jobs, whole_of: Wholes, tmp_path: Path
) -> None:
    job, whole, folder = job_of(name), whole_of(name), tmp_path / "run"
    process = job.start(folder)
    job.wait_until_saved(process, folder, 0)
    reported = job.saved(folder)
    for number in numbers:  # at once: the second must meet the training, not the command's last lines after it
        process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode in (status, 0, -numbers[-1]), said
    assert "Traceback" not in said, said
    assert job.saved(folder) >= reported
    finish(job, folder, whole)


@pytest.mark.parametrize("name", TRAINERS if FULL else ("jepa",))
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    name: str, damage: str, job_of: Jobs, whole_of: Wholes, tmp_path: Path
) -> None:
    job, whole, folder = job_of(name), whole_of(name), tmp_path / "run"
    subprocess.run(["cp", "-r", str(whole), str(folder)], check=True)
    newest = list_checkpoints(folder / "checkpoints")[0]
    content = bytearray(newest.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 16
    newest.write_bytes(content)
    status, said = job.run(folder)
    assert status == 0, said
    assert newest.name in said  # which one was damaged
    assert job.result(folder) == job.result(whole)


@pytest.mark.parametrize("name", JOBS if FULL else ("hrm", "compare"))
def test_the_disk_is_full(name: str, job_of: Jobs, whole_of: Wholes, tmp_path: Path) -> None:
    """The process may write no file beyond a size, which its checkpoints or predictions soon need."""
    job, whole, folder = job_of(name), whole_of(name), tmp_path / "run"
    files = [*whole.rglob("step_*.pt")] or [whole / "predictions.jsonl"]
    limit = files[0].stat().st_size // 2
    status, said = job.run(folder, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert status in (1, 2), said
    one_line(said, "could not be written", "cannot be used", "cannot be written", "File too large")
    finish(job, folder, whole)


@pytest.mark.parametrize("name", JOBS if FULL else ("program-jepa", "compare"))
def test_the_folder_cannot_be_written(name: str, job_of: Jobs) -> None:
    status, said = job_of(name).run(Path("/proc/none/run"))
    assert status == 2, said
    one_line(said, "/proc/none")


@pytest.mark.parametrize("name", JOBS if FULL else ("jepa", "compare"))
def test_two_processes_on_one_folder(name: str, job_of: Jobs, whole_of: Wholes, tmp_path: Path) -> None:
    job, whole, folder = job_of(name), whole_of(name), tmp_path / "run"
    first = job.start(folder)
    job.wait_until_saved(first, folder, 0)
    first.send_signal(signal.SIGSTOP)  # it still holds the folder when the other one comes
    try:
        status, said = job.run(folder)
    finally:
        first.send_signal(signal.SIGCONT)
    assert status == 2, said
    one_line(said, "being written by another process")
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 0, said
    assert job.result(folder) == job.result(whole)


@pytest.mark.parametrize("name", TRAINERS if FULL else ("hrm",))
def test_the_config_is_deleted_and_the_clock_goes_back(
    name: str, job_of: Jobs, whole_of: Wholes, tmp_path: Path
) -> None:
    job, whole, folder = job_of(name), whole_of(name), tmp_path / "run"
    process = job.start(folder)
    job.wait_until_saved(process, folder, 0)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (folder / "config.yaml").unlink()
    for number, path in enumerate(sorted(folder.rglob("*"), reverse=True)):  # files from a future that is now gone
        os.utime(path, (2e9 + number, 2e9 + number))
    finish(job, folder, whole)


@pytest.mark.parametrize("name", TRAINERS if FULL else ("rlan",))
def test_memory_runs_out(name: str, job_of: Jobs, whole_of: Wholes, tmp_path: Path) -> None:
    """The process may have no more memory than it has after its first checkpoint."""
    job, whole, folder = job_of(name), whole_of(name), tmp_path / "run"
    process = job.start(folder)
    job.wait_until_saved(process, folder, 0)
    if process.poll() is None:
        size = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(process.pid, resource.RLIMIT_AS, (size, size))
    said, _ = process.communicate(timeout=120)
    if process.returncode:  # what it has may be enough to end with
        assert "Traceback" not in said, said
    finish(job, folder, whole)


def test_a_worker_dies(job_of: Jobs, whole_of: Wholes, tmp_path: Path) -> None:
    """A process of the search is killed while it works: its task is solved again."""
    job, whole, folder = job_of("compare"), whole_of("compare"), tmp_path / "run"
    process = job.start(folder)
    job.wait_until_saved(process, folder, 30)
    workers = subprocess.run(["pgrep", "-g", str(process.pid), "-f", "LokyProcess"], capture_output=True, text=True)
    for worker in workers.stdout.split()[:1]:
        os.kill(int(worker), signal.SIGKILL)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert job.result(folder) == job.result(whole)
