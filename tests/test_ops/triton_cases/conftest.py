"""Small programs, so that tiny inputs have several of each kind.

These cases run on a GPU, or without one on the CPU in a process that has
``TRITON_INTERPRET=1`` (what ``test_triton_kernels.py`` starts).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmscope.ops import why_unavailable

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def pytest_collection_modifyitems(items):
    reason = why_unavailable('triton', DEVICE)
    for item in items:
        # The hook is given the items of all folders.
        if reason and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _small_programs(monkeypatch):
    from mmscope.ops.triton_kernels import backward, conv, launch, scan

    for name in ('WIDTHS', 'EXACT_WIDTHS'):
        monkeypatch.setattr(scan, name, (4,))
    monkeypatch.setattr(backward, 'BACKWARD_WIDTHS', (4,))
    monkeypatch.setattr(launch, 'SPAN', 4)
    monkeypatch.setattr(launch, 'ENOUGH_PROGRAMS', 0)
    monkeypatch.setattr(conv, 'TOKENS', 4)
    monkeypatch.setattr(conv, 'CHANNELS', 4)
    for module in (scan, backward):
        monkeypatch.setattr(module, 'CHUNK', 4)


@pytest.fixture
def cut(monkeypatch):
    """Cut every sequence of at least two spans."""
    from mmscope.ops.triton_kernels import launch

    monkeypatch.setattr(launch, 'ENOUGH_PROGRAMS', 10**9)


@pytest.fixture
def as_released(monkeypatch):
    """Leave the programs' sizes as users have them."""
    monkeypatch.undo()
