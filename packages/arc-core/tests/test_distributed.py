"""Gathers and means of several processes against what one process computes of all values."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from arc_core.distributed import all_gather_blocks, all_gather_ordered, all_gather_ragged, global_mean, world_size

TORCHRUN = str(Path(sys.executable).parent / "torchrun")

CODE = """
import torch, torch.distributed as dist
from arc_core.distributed import all_gather_blocks, all_gather_ordered, all_gather_ragged, global_mean, world_size
dist.init_process_group("gloo")
rank = dist.get_rank()
assert world_size() == 2
# Of unequally many values: the parts' mean over processes is the mean over all.
values = torch.arange(5.0)[: 2] if rank == 0 else torch.arange(5.0)[2:]
part = global_mean(values)
dist.all_reduce(part)
assert part / 2 == 2.0, part
assert global_mean(torch.zeros(0)) == 0
# The global batch 0..11 in blocks of 2: rank r holds blocks r, r + 2, ...
rows = torch.arange(12.0)[:, None].expand(12, 3)
mine = rows.reshape(3, 2, 2, 3)[:, rank].reshape(6, 3)
everything, places = all_gather_blocks(mine, 2)
assert torch.equal(everything, rows) and torch.equal(everything[places], mine)
assert torch.equal(all_gather_blocks(mine[:, 0].clone(), 2)[0], rows[:, 0])
assert [len(part) for part in all_gather_ragged(rows[: 4 - rank])] == [4, 3]
# Rows in any order and number, places beyond what float32 can tell apart.
order = torch.tensor([2**24 + 1, 7]) if rank == 0 else torch.tensor([2**24, 0, 3])
found = all_gather_ordered(order[:, None].double(), order)
assert found[:, 0].tolist() == [0, 3, 7, 2**24, 2**24 + 1], found
dist.barrier()  # a process that ends before the other aborts in its own threads
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_gather_what_one_has(tmp_path: Path) -> None:
    script = tmp_path / "gather.py"
    script.write_text(CODE)
    command = [TORCHRUN, "--standalone", "--nproc-per-node", "2", str(script)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr


def test_one_process_has_everything_already() -> None:
    rows = torch.arange(6.0)[:, None]
    assert world_size() == 1
    assert float(global_mean(rows[:, 0])) == 2.5
    assert torch.equal(all_gather_blocks(rows, 2)[0], rows) and all_gather_ragged(rows)[0] is rows
    assert all_gather_ordered(rows, torch.tensor([5, 4, 3, 2, 1, 0]))[:, 0].tolist() == [5, 4, 3, 2, 1, 0]
