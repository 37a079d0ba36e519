from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch

from mmscope.benchmark.gpu import graphs
from mmscope.benchmark.gpu.graphs import Recorded, lap, race_laps

from .conftest import CPU

# Not the real thing: the calls that recording makes, and their order.
CUDA = SimpleNamespace(type='cuda')


@pytest.fixture
def fake_cuda(monkeypatch):
    """torch.cuda's part of a recording, in memory."""
    said = []

    class Graph:
        def replay(self):
            said.append('replay')

    class Stream:
        def __init__(self, device):
            pass

        def wait_stream(self, other):
            said.append('wait')

    @contextlib.contextmanager
    def entered(thing):
        said.append(type(thing).__name__)
        yield

    fake = SimpleNamespace(
        CUDAGraph=Graph,
        Stream=Stream,
        graph=entered,
        stream=entered,
        current_stream=Stream,
        set_stream=lambda stream: said.append('back'),
        synchronize=lambda device: said.append('synchronize'),
    )
    monkeypatch.setattr(graphs.torch, 'cuda', fake)
    return said


def test_recording_warms_up_on_another_stream(fake_cuda):
    calls = []
    replay, result = graphs.record(lambda: calls.append(1) or 7, CUDA)
    assert result == 7
    assert len(calls) == graphs.WARM_UP + 1
    assert fake_cuda == ['wait', 'Stream', 'wait', 'synchronize', 'Graph']
    replay()
    assert fake_cuda[-1] == 'replay'


@pytest.fixture
def lasting(fake_cuda, monkeypatch):
    """Let each call take seconds of launching, or of a replay's work."""

    def begin(launching, working):
        calls = []

        def stopwatch(run, device):
            before = len(fake_cuda), len(calls)
            run()
            if fake_cuda[before[0] :] == ['replay']:
                return working * recorded[-1]
            return launching

        recorded = []

        @contextlib.contextmanager
        def graph(thing):
            before = len(calls)
            yield
            recorded.append(len(calls) - before)

        monkeypatch.setattr(graphs, 'stopwatch', stopwatch)
        monkeypatch.setattr(graphs.torch.cuda, 'graph', graph)
        return lambda: calls.append(1)

    return begin


def test_a_lap_records_many_short_runs(lasting):
    found = lap(lasting(launching=1e-4, working=1e-4), CUDA)
    assert (found.kind, found.calls) == ('graph', 20)


@pytest.mark.parametrize(
    ('working', 'calls'), [(2e-5, 100), (1e-6, 200), (6e-5, 20), (1.0, 1)]
)
def test_a_lap_lasts_however_long_launching_takes(lasting, working, calls):
    launching = max(working, 1e-4)
    found = lap(lasting(launching, working), CUDA)
    assert (found.kind, found.calls) == ('graph', calls)


@pytest.fixture
def refusing(fake_cuda, monkeypatch):
    monkeypatch.setattr(graphs, 'stopwatch', lambda run, device: 1.0)

    def refuse(graph):
        raise RuntimeError('operation not permitted while capturing\nmore')

    monkeypatch.setattr(graphs.torch.cuda, 'graph', refuse)
    return fake_cuda


def test_what_cannot_be_recorded_is_called(refusing):
    found = lap(lambda: None, CUDA)
    assert (found.kind, found.calls) == ('calls', 1)
    assert found.reason == 'operation not permitted while capturing'


def test_a_time_says_why_nothing_was_recorded(refusing):
    (found,) = race_laps({'run': lambda: None}, CUDA, repeats=3).values()
    assert (found.timed_by, found.rounds) == ('calls', 3)
    assert found.reason == 'operation not permitted while capturing'


def test_after_a_lost_recording_nothing_is_recorded(refusing, new_process):
    assert not graphs.process.lost
    lap(lambda: None, CUDA)
    assert graphs.process.lost
    # PyTorch itself would stay on the stream of the recording.
    assert refusing[-2:] == ['back', 'synchronize']
    assert lap(lambda: None, CUDA).reason == graphs.AFTER_LOSS
    new_process().forbidden = 'why not'
    assert lap(lambda: None, CUDA).reason == 'why not'
    assert not graphs.process.lost


def test_recorded_functions_see_new_values():
    double = Recorded(lambda x: 2 * x, (torch.ones(3),), CPU)
    assert torch.equal(double(torch.full((3,), 4.0)), torch.full((3,), 8.0))


def test_laps_are_told_per_run():
    found = race_laps({'a': lambda: None, 'b': lambda: None}, CPU, 3)
    assert list(found) == ['a', 'b']
    assert found['a'].timed_by == 'calls'
    low, high = found['a'].us_iqr
    assert 0 <= low <= found['a'].us <= high
