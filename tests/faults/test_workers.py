"""A worker process dies: one line, and the same command ends as if nothing had happened."""

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
    """Starts generate-dataset for some seconds of work, in a session of its own."""
    counts = [f"--task_schedule.phase_{phase}.count={count}" for phase, count in (("i", 40), ("ii", 40), ("iii", 60))]
    command = [sys.executable, "-m", "jepa_hrl.synthesis.cli", "--output-dir", str(folder), "--workers", "2"]
    return subprocess.Popen(
        [*command, *(word for count in counts for word in count.split("="))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, start_new_session=True,
    )  # fmt: skip


def finished(process: "subprocess.Popen[str]") -> str:
    """What it said, having ended well."""
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return said


def test_generating_goes_on_after_a_worker_died(tmp_path: Path) -> None:
    finished(generate(tmp_path / "whole"))
    folder = tmp_path / "parted"
    process, partial = generate(folder), folder / "manifest.jsonl.partial"
    while process.poll() is None and (not partial.exists() or not partial.stat().st_size):
        time.sleep(0.01)
    workers = subprocess.run(["pgrep", "-g", str(process.pid), "-f", "LokyProcess"], capture_output=True, text=True)
    os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "Traceback" not in said and "a worker process died" in said.strip().splitlines()[-1], said
    assert "tasks" in finished(generate(folder))
    assert (folder / "manifest.jsonl").read_bytes() == (tmp_path / "whole" / "manifest.jsonl").read_bytes()
