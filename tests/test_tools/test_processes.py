from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A runner and its model hold each other, and DDP holds the group.
JOB = """
import os
import torch
from torch import distributed, nn
from mmscope.runtime import (leaving_together)

class Runner:
    pass

def threads():
    return len(os.listdir('/proc/self/task'))

def main():
    distributed.init_process_group(
        'gloo', store=distributed.HashStore(), rank=0, world_size=1
    )
    runner = Runner()
    runner.runner = runner
    runner.model = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
    runner.model(torch.ones(1, 2))
    return threads()

before = threads()
with leaving_together():
    during = main()
print(before, during, threads(), distributed.is_initialized())
"""


@pytest.mark.skipif(
    not Path('/proc/self/task').exists(), reason='counts threads in /proc'
)
def test_no_thread_of_the_group_outlives_the_block():
    done = subprocess.run(
        [sys.executable, '-c', JOB],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *_, last = done.stdout.splitlines()
    before, during, after, alive = last.split()
    assert int(during) > int(before)
    assert int(after) == int(before)
    assert alive == 'False'
