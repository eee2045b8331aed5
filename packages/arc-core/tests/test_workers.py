"""A stopped command leaves no worker process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORK = """
import os, signal, sys, time
from joblib import delayed
from arc_core.errors import run_command
from arc_core.workers import run_in_workers

def nap():
    open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
    time.sleep(0.2)

def work():
    return len(list(run_in_workers((delayed(nap)() for _ in range(10_000)), 2)))

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test that runs in the background ignores it
    sys.exit(run_command(work))
"""


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("signal_number", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_stopped_command_leaves_no_worker_behind(tmp_path: Path, signal_number: int, status: int, word: str) -> None:
    script, seen = tmp_path / "work.py", tmp_path / "seen"
    script.write_text(WORK)
    seen.mkdir()
    command = subprocess.Popen([sys.executable, script, seen], start_new_session=True, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while len(list(seen.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    workers = [int(path.name) for path in seen.iterdir()]
    assert len(workers) == 2
    command.send_signal(signal_number)
    _, message = command.communicate(timeout=60)
    assert (command.returncode, message.decode()) == (status, f"{word}\n")
    until = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(alive, workers))
