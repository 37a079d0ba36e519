from __future__ import annotations

import pytest
import torch

from mmscope.benchmark.gpu import graphs
from mmscope.benchmark.gpu.record import Record

CPU = torch.device('cpu')


@pytest.fixture
def record(tmp_path):
    return Record(tmp_path / 'found.json')


@pytest.fixture
def new_process(monkeypatch):
    """Forget lost recordings, as another process does."""

    def begin():
        monkeypatch.setattr(graphs, 'process', graphs.Process())
        return graphs.process

    return begin


@pytest.fixture(autouse=True)
def _no_losses(new_process):
    new_process()
