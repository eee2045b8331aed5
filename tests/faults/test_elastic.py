"""A process of two is killed: torchrun starts both again, they go on from the last checkpoint and end as if nothing had
happened."""

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
    """The job under torchrun, which starts it again so often."""
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts))
    return replace(job, command=("-m", *launcher, *job.command))


def rank_of(process: int) -> str | None:
    """The rank of one of torchrun's processes; None for any other, or one that is gone."""
    try:
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((variable[5:].decode() for variable in variables if variable.startswith(b"RANK=")), None)


def children_of(process: int) -> list[int]:
    """Processes that a process has begun."""
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


def kill_rank(launcher: int, rank: int) -> None:
    """Kills one of torchrun's processes with its workers, as a machine that fails does."""
    for child in children_of(launcher):
        if rank_of(child) == str(rank):
            for one in (child, *children_of(child)):
                os.kill(one, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.parametrize("rank", [0, 1] if FULL else [1])
@pytest.mark.parametrize("name", TRAINERS if FULL else ("jepa",))
def test_a_killed_process_comes_back(name: str, rank: int, job_of: Callable[[str], Job], tmp_path: Path) -> None:
    job, whole, folder = on_two_processes(job_of(name), 2), tmp_path / "whole", tmp_path / "run"
    status, said = job.run(whole)
    assert status == 0, said
    process = job.start(folder)
    job.wait_until_saved(process, folder, 0)
    reported = job.saved(folder)
    assert reported < job.saved(whole)
    kill_rank(process.pid, rank)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "continuing" in said, said
    assert job.result(folder) == job.result(whole)
