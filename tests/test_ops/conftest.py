from __future__ import annotations

import pytest
import torch

from mmscope import ops

UNCOMPILED = 'no compiled kernels'


@pytest.fixture(autouse=True)
def _nan_filled_memory_and_one_thread():
    # torch fills new memory with NaN while it has to be deterministic: an
    # element that a kernel forgets to write is then seen.
    torch.use_deterministic_algorithms(True, warn_only=True)
    # The tensors here are too small for two threads to help.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=ops.cpu_isas() or [UNCOMPILED])
def isa(request):
    """Run a test with each instruction set that this machine has."""
    if request.param == UNCOMPILED:
        pytest.fail(ops.why_unavailable('cpu', 'cpu'))
    before = ops.cpu_isa()
    ops.set_cpu_isa(request.param)
    yield request.param
    ops.set_cpu_isa(before)
