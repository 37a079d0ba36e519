from __future__ import annotations

import pytest
import torch

from mmscope.benchmark.gpu.record import Record

CPU = torch.device('cpu')


@pytest.fixture
def record(tmp_path):
    return Record(tmp_path / 'found.json')
