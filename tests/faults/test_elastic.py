"""If one of two processes is killed, torchrun restarts both and they resume from the last checkpoint."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import TRAINERS, Job
from tests.faults.test_faults import FULL

pytestmark = pytest.mark.slow


def on_two_processes(job: Job, restarts: int) -> Job:
    """Returns the job under torchrun with two processes and so many restarts."""
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts))
    return replace(job, command=("-m", *launcher, *job.command))


def find_rank(process: int) -> str | None:
    """Returns the rank of one of torchrun's processes; None for any other process, or one that has ended."""
    try:
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((variable[5:].decode() for variable in variables if variable.startswith(b"RANK=")), None)


def find_children(process: int) -> list[int]:
    """Returns the ids of a process's child processes."""
    listing = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False)
    return [int(child) for child in listing.stdout.split()]


def kill_rank(launcher: int, rank: int) -> None:
    """Kills one of torchrun's processes with its workers, as the failure of a machine would."""
    for child in find_children(launcher):
        if find_rank(child) == str(rank):
            for one in (child, *find_children(child)):
                os.kill(one, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.parametrize("rank", [0, 1] if FULL else [1])
@pytest.mark.parametrize("name", TRAINERS if FULL else ("jepa",))
def test_a_killed_process_comes_back(name: str, rank: int, job_of: Callable[[str], Job], tmp_path: Path) -> None:
    job, reference, folder = on_two_processes(job_of(name), 2), tmp_path / "reference", tmp_path / "run"
    status, output = job.run(reference)
    assert status == 0, output
    process = job.start(folder)
    job.wait_until_saved(process, folder, 0)
    reported = job.saved(folder)
    assert reported < job.saved(reference)
    kill_rank(process.pid, rank)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "continuing" in output, output
    assert job.result(folder) == job.result(reference)
