from __future__ import annotations

import time

import pytest
import torch

from mmscope.benchmark.contestants import Contestant
from mmscope.benchmark.grid import Limits

CPU = torch.device('cpu')


@pytest.fixture
def limits():
    return Limits(CPU, repeats=3, budget_s=20.0)


@pytest.fixture
def sleeper():
    """Build contestants that sleep a given time for each image."""

    def build(name, seconds, kind=None, **options):
        def make(batch):
            return lambda: time.sleep(seconds * batch)

        return Contestant(name, kind or name, make, **options)

    return build
