"""If a worker process dies, the command ends with one line, and the same command then completes its work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ENVIRONMENT

pytestmark = pytest.mark.slow


def generate(folder: Path) -> "subprocess.Popen[str]":
    """Starts generate-dataset in a session of its own, with work for some seconds."""
    counts = [f"--task_schedule.phase_{phase}.count={count}" for phase, count in (("i", 40), ("ii", 40), ("iii", 60))]
    command = [sys.executable, "-m", "jepa_hrl.synthesis.cli", "--output-dir", str(folder), "--workers", "2"]
    return subprocess.Popen(
        [*command, *(word for count in counts for word in count.split("="))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, start_new_session=True,
    )  # fmt: skip


def wait_for_success(process: "subprocess.Popen[str]") -> str:
    """Waits for a process, asserts that it succeeded, and returns its output."""
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return output


def test_generating_goes_on_after_a_worker_died(tmp_path: Path) -> None:
    wait_for_success(generate(tmp_path / "whole"))
    folder = tmp_path / "parted"
    process, partial = generate(folder), folder / "manifest.jsonl.partial"
    while process.poll() is None and (not partial.exists() or not partial.stat().st_size):
        time.sleep(0.01)
    workers = subprocess.run(["pgrep", "-g", str(process.pid), "-f", "LokyProcess"], capture_output=True, text=True)
    os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "Traceback" not in output and "a worker process died" in output.strip().splitlines()[-1], output
    assert "tasks" in wait_for_success(generate(folder))
    assert (folder / "manifest.jsonl").read_bytes() == (tmp_path / "whole" / "manifest.jsonl").read_bytes()
