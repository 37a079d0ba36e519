from __future__ import annotations

import pytest
import torch

from mmscope.benchmark.grid import Limits
from mmscope.benchmark.subjects import Subject

CPU = torch.device('cpu')


@pytest.fixture
def limits():
    return Limits(CPU, repeats=3, budget_s=20.0)


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    """The clock of all races, so that a busy machine changes no result."""
    clock = Clock()
    monkeypatch.setattr('mmscope.evaluation.interleaved_timing.time', clock)
    return clock


@pytest.fixture
def sleeper(clock):
    """Build subjects that sleep a given time for each image."""

    def build(name, seconds, kind=None, **options):
        def make(batch):
            return lambda: clock.sleep(seconds * batch)

        return Subject(name, kind or name, make, **options)

    return build
