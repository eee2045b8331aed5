"""A short run of tools/check_in_context.py, on rules that only the demonstrations show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_color_permutations_never_seen_are_learnt_from_the_demonstrations() -> None:
    command = [sys.executable, str(ROOT / "tools" / "check_in_context.py"), "--rule", "colors", "--steps", "100"]
    sizes = ["--tasks", "400", "--largest", "6", "--hidden", "32"]
    done = subprocess.run(
        [*command, *sizes], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    own, others = (float(value) for value in re.findall(r"demonstrations +([0-9.]+)", done.stdout))
    assert own > 0.95
    assert others < 0.05
